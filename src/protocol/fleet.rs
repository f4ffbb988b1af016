//! How a fleet with identities grows and changes: taking an invitation up, and the newest account.
//!
//! Nothing here has to be believed because of who says it. An account is signed by the fleet's key, an
//! identity by a key that the account names.

use serde::{Deserialize, Serialize};

use super::decode::{self, BadMessage};
use super::identity::Name;

/// The `type` of an account, as it is told and answered.
pub const ACCOUNT_TYPE: &str = "peerbus.account.v1";
/// The `type` of a question that takes an invitation up.
pub const JOIN_TYPE: &str = "peerbus.join.v1";
/// The `type` of its answer.
pub const JOINED_TYPE: &str = "peerbus.joined.v1";

/// What a proof of holding a key begins with.
const PROOF: &[u8] = b"peerbus.join.v1";

/// How far two clocks may be apart where an invitation is taken up, in milliseconds. A machine whose clock is
/// further off has trouble of many kinds, and is told so while somebody looks at it.
pub const CLOCKS_APART_MS: u64 = 300_000;

/// Errors in answer to `fleet.join.<invitation>`: the fixed words.
pub mod refused {
    /// It is not signed by the guest of that very invitation.
    pub const UNPROVEN: &str = "unproven";
    /// The guest's clock is wrong.
    pub const CLOCK: &str = "clock";
    /// The invitation is used, over, revoked, or was never made.
    pub const NOT_INVITED: &str = "not_invited";
    /// Somebody has the name by now.
    pub const TAKEN: &str = "taken";
    /// The leader cannot read or write the fleet's books.
    pub const BOOKS: &str = "books";
    /// The question cannot be read.
    pub const BAD_REQUEST: &str = "bad_request";
}

/// The newest account: told on `fleet.account.changed`, answered on `fleet.account`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountMessage {
    /// Always [`ACCOUNT_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The account, signed by the fleet's key.
    pub account: String,
}

impl AccountMessage {
    /// Tells of an account.
    #[must_use]
    pub fn new(account: String) -> Self {
        Self { kind: ACCOUNT_TYPE.to_owned(), account }
    }

    /// Reads one.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        let message: Self = decode::json(payload)?;
        decode::check_type(Some(&message.kind), ACCOUNT_TYPE)?;
        Ok(message)
    }
}

/// Takes an invitation up, sealed by its guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Always [`JOIN_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The new identity's public key, as NATS writes it.
    pub key: String,
    /// That whoever asks holds it: its signature, in base64 for URLs without padding, over what
    /// [`JoinRequest::to_be_proved`] gives.
    pub proof: String,
}

impl JoinRequest {
    /// Reads a question.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        let request: Self = decode::json(payload)?;
        decode::check_type(Some(&request.kind), JOIN_TYPE)?;
        Ok(request)
    }

    /// What the new key signs: what it is for, the invitation, and itself.
    #[must_use]
    pub fn to_be_proved(invitation: &Name, key: &str) -> Vec<u8> {
        [PROOF, b" ", invitation.as_str().as_bytes(), b" ", key.as_bytes()].concat()
    }
}

/// The answer, sealed by the leader: the identity that the invitation has become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinResponse {
    /// Always [`JOINED_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The identity's token. It is of use to the holder of its key alone.
    pub identity: String,
    /// The newest account.
    pub account: String,
    /// Whether the leader hears a peer of that name.
    pub is_heard: bool,
}

impl JoinResponse {
    /// Reads an answer.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        let answer: Self = decode::json(payload)?;
        decode::check_type(Some(&answer.kind), JOINED_TYPE)?;
        Ok(answer)
    }
}
