//! The headers of a message that proves who said it. What they hold is made and checked by
//! `identity`.

use super::control::INSTANCE_HEADER;
use super::frame;
use super::reply::ERROR_HEADER;

/// The speaker's identity: the token that NATS knows it by.
pub const IDENTITY: &str = "D-Identity";
/// The speaker's signature, in base64 for URLs, without padding.
pub const SIGNATURE: &str = "D-Signature";
/// When it was said, in milliseconds since 1970, by the speaker's clock.
pub const TIME: &str = "D-Time";
/// The challenge that this answers.
pub const CHALLENGE: &str = "D-Challenge";

/// In a refusal of what was not proved or could not be read: the signature of the very message that is
/// refused, or nothing. Whoever sent another one under the same id is not told that theirs was refused.
pub const REFUSES: &str = "D-Refuses";

/// Headers that are signed, in the order in which they are. What is not among them means nothing that
/// anybody relies on.
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
