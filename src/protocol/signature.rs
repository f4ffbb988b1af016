//! The headers that prove the sender of a message. The crate `identity` creates and checks their
//! values.

use super::control::INSTANCE_HEADER;
use super::frame;
use super::reply::ERROR_HEADER;

/// The sender's identity token, which NATS also verifies.
pub const IDENTITY: &str = "D-Identity";
/// The sender's signature, in base64 for URLs, without padding.
pub const SIGNATURE: &str = "D-Signature";
/// Send time in milliseconds since 1970, by the sender's clock.
pub const TIME: &str = "D-Time";
/// The challenge that the message answers.
pub const CHALLENGE: &str = "D-Challenge";

/// In a refusal of an unproven or malformed message: the signature of the refused message, or nothing.
/// So the sender of another message with the same id does not mistake it for its own refusal.
pub const REFUSES: &str = "D-Refuses";

/// The signed headers, in signing order. Nothing may rely on any other header.
pub const SIGNED_HEADERS: [&str; 9] = [
    frame::KIND,
    frame::EPOCH,
    frame::SEQ,
    frame::OFFSET,
    INSTANCE_HEADER,
    ERROR_HEADER,
    TIME,
    CHALLENGE,
    REFUSES,
];
