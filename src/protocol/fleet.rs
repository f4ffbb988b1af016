//! Changes of a fleet with identities: redeeming an invitation, and the newest account.
//!
//! Receivers need not trust the sender of these messages. The fleet's key signs an account, and a key
//! in the account signs an identity.

use serde::{Deserialize, Serialize};

use super::decode::{self, BadMessage};
use super::identity::Name;

/// The `type` of an account message.
pub const ACCOUNT_TYPE: &str = "peerbus.account.v1";
/// The `type` of a request that redeems an invitation.
pub const JOIN_TYPE: &str = "peerbus.join.v1";
/// The `type` of the answer.
pub const JOINED_TYPE: &str = "peerbus.joined.v1";

/// Prefix of a proof that the sender holds a key.
const PROOF: &[u8] = b"peerbus.join.v1";

/// Largest clock difference at which an invitation can be redeemed, in milliseconds. A larger one
/// causes many other problems, and here the user sees the error at once.
pub const CLOCKS_APART_MS: u64 = 300_000;

/// Error codes in answers to `fleet.join.<invitation>`.
pub mod refused {
    /// The guest of this invitation did not sign the request.
    pub const UNPROVEN: &str = "unproven";
    /// The guest's clock is wrong.
    pub const CLOCK: &str = "clock";
    /// The invitation is used, expired or revoked, or never existed.
    pub const NOT_INVITED: &str = "not_invited";
    /// The name is in use by now.
    pub const TAKEN: &str = "taken";
    /// The leader cannot read or write the fleet's records.
    pub const BOOKS: &str = "books";
    /// The request is malformed.
    pub const BAD_REQUEST: &str = "bad_request";
}

/// The newest account: announced on `fleet.account.changed`, answered on `fleet.account`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountMessage {
    /// Always [`ACCOUNT_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The account, signed by the fleet's key.
    pub account: String,
}

impl AccountMessage {
    /// A message with this account.
    #[must_use]
    pub fn new(account: String) -> Self {
        Self { kind: ACCOUNT_TYPE.to_owned(), account }
    }

    /// Decodes an account message.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        let message: Self = decode::json(payload)?;
        decode::check_type(Some(&message.kind), ACCOUNT_TYPE)?;
        Ok(message)
    }
}

/// Redeems an invitation; signed by its guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Always [`JOIN_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The new identity's public key, as NATS writes it.
    pub key: String,
    /// Proof that the sender holds the key: its signature, in base64 for URLs without padding, over
    /// [`JoinRequest::to_be_proved`].
    pub proof: String,
}

impl JoinRequest {
    /// Decodes a request.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        let request: Self = decode::json(payload)?;
        decode::check_type(Some(&request.kind), JOIN_TYPE)?;
        Ok(request)
    }

    /// What the new key signs: the purpose, the invitation, and the key itself.
    #[must_use]
    pub fn to_be_proved(invitation: &Name, key: &str) -> Vec<u8> {
        [PROOF, b" ", invitation.as_str().as_bytes(), b" ", key.as_bytes()].concat()
    }
}

/// The answer, signed by the leader: the new identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinResponse {
    /// Always [`JOINED_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The identity token. Useless without its private key.
    pub identity: String,
    /// The newest account.
    pub account: String,
    /// Whether a peer of that name is online, as far as the leader knows.
    pub is_heard: bool,
}

impl JoinResponse {
    /// Decodes an answer.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        let answer: Self = decode::json(payload)?;
        decode::check_type(Some(&answer.kind), JOINED_TYPE)?;
        Ok(answer)
    }
}
