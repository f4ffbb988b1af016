//! Who somebody is, and how that is proved.
//!
//! The idea: a fleet has one key, the operator key of its NATS servers. It vouches for one account; the
//! account's signing keys, one for each [`Standing`](peerbus_protocol::identity::Standing), vouch for the
//! identities. So the server and every member check the same documents, NATS's own JWTs, and what the
//! server enforces is written into the account: rights, standing by standing, and who was revoked.
//!
//! ```text
//!  fleet key ──signs──▶ account: rights by standing, revocations ──its signing keys──▶ identity: name, key
//!                                                                                          │ signs
//!                                                                                          ▼ what it says
//! ```
//! Guarantees: what [`TrustStore::signer`] returns was signed by a key that the fleet vouches for and that was
//! not revoked as far as this member knows; a signature holds for one subject, one reply subject, one
//! payload. Nothing in here prints a secret. Limits: it knows neither who may do what (that is policy) nor
//! whether a request is a repeat (that is the journal); an account is only as new as the last one heard.

mod account;
pub mod authority;
mod file;
mod invite_token;
mod jwt;
mod key;
mod signature;
mod trust_store;

pub use account::{Account, BadAccount, SubjectPermissions};
pub use file::{BadIdentity, IdentityFile};
pub use invite_token::{BadInviteToken, InviteToken, Invitee};
pub use jwt::BadToken;
pub use key::{BadKey, Key, PublicKey};
pub use signature::{MessageSigner, SignatureError, SigningInput};
pub use trust_store::{MembershipError, Signer, TrustStore};
