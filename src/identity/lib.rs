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
//! Guarantees: what [`Trust::signer`] returns was signed by a key that the fleet vouches for and that was
//! not revoked as far as this member knows; a signature holds for one subject, one reply subject, one
//! payload. Nothing in here prints a secret. Limits: it knows neither who may do what (that is policy) nor
//! whether a request is a repeat (that is the journal); an account is only as new as the last one heard.

mod account;
pub mod authority;
mod file;
mod invitation;
mod jwt;
mod key;
mod seal;
mod trust;

pub use account::{Account, BadAccount, Rights};
pub use file::{BadIdentity, IdentityFile};
pub use invitation::{Guest, NoInvitation, Ticket};
pub use jwt::BadToken;
pub use key::{BadKey, Key, PublicKey};
pub use seal::{Seal, SealedParts, Unproven};
pub use trust::{NoMember, Signer, Trust};
