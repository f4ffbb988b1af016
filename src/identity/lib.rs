//! Identities, and how messages prove them.
//!
//! A fleet has one key: the operator key of its NATS servers. It signs one account. The account has one
//! signing key per [`Standing`](peerbus_protocol::identity::Standing), and these sign the identities.
//! So the server and every member check the same documents, which are NATS JWTs. The account contains
//! what the server enforces: the permissions of each standing, and the revocations.
//!
//! ```text
//!  fleet key ──signs──▶ account: rights by standing, revocations ──its signing keys──▶ identity: name, key
//!                                                                                          │ signs
//!                                                                                          ▼ messages
//! ```
//! Guarantees: [`TrustStore::signer`] returns only identities that this fleet signed and that are not
//! revoked, as far as this member knows. A signature is valid for one subject, one reply subject and
//! one payload. Nothing in this crate prints a secret.
//!
//! Limits: this crate does not authorize (the policy does) and does not detect repeated requests (the
//! journal does). A member's account is only as new as the last one it received.

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
