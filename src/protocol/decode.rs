//! Decodes messages, with errors that name the field.

use serde::de::DeserializeOwned;
use thiserror::Error;

/// Why a message is malformed. The text goes back to its sender.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadMessage(pub String);

/// Decodes one JSON object.
///
/// # Errors
/// Names the missing or wrong field, or says that the payload is not JSON.
pub fn json<T: DeserializeOwned>(payload: &[u8]) -> Result<T, BadMessage> {
    // The decoder would also accept an array of the right length.
    if payload.trim_ascii_start().first().is_some_and(|byte| *byte == b'[') {
        return Err(BadMessage("this is a JSON array where an object is wanted".to_owned()));
    }
    one(payload).map_err(|bad| BadMessage(readable(&bad.0)))
}

fn one<T: DeserializeOwned>(payload: &[u8]) -> Result<T, BadMessage> {
    let mut source = serde_json::Deserializer::from_slice(payload);
    let value = serde_path_to_error::deserialize(&mut source).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        if cause.is_syntax() || cause.is_eof() {
            return BadMessage(format!("this is not JSON: {cause}"));
        }
        match path.as_str() {
            "." | "?" => BadMessage(cause.to_string()),
            field => BadMessage(format!("field `{field}`: {cause}")),
        }
    })?;
    source.end().map_err(|_| BadMessage("there is more than one JSON object here".to_owned()))?;
    Ok(value)
}

/// Cuts the middle out of a sentence that quotes long foreign text, so that an answer fits into a
/// message and a log line on a screen.
pub fn readable(sentence: &str) -> String {
    const BEGIN: usize = 600;
    const END: usize = 300;
    let length = sentence.chars().count();
    if length <= BEGIN + END {
        return sentence.to_owned();
    }
    let begin: String = sentence.chars().take(BEGIN).collect();
    let end: String = sentence.chars().skip(length - END).collect();
    format!("{begin} … {end}")
}

/// Encodes a message of this protocol.
///
/// # Panics
/// Never for the types of this crate: they have string keys and no fallible serializers. A panic is a
/// mistake in a type's definition, which its golden test would catch.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "a message type that cannot be written as JSON is a mistake in this crate"
)]
pub fn to_json<T: serde::Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("a message is always valid JSON")
}

/// Checks the `type` of a message. It may be absent, because people type messages by hand.
pub(crate) fn check_type(found: Option<&str>, wanted: &'static str) -> Result<(), BadMessage> {
    match found {
        None => Ok(()),
        Some(kind) if kind == wanted => Ok(()),
        Some(kind) => Err(BadMessage(format!(
            "field `type`: {:?} where {wanted:?} is wanted",
            super::ids::shortened(kind)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_keeps_its_begin_and_its_end() {
        assert_eq!(readable("short"), "short");
        let long = readable(&format!("begin {} end", "ü".repeat(100_000)));
        assert!(long.starts_with("begin ü") && long.ends_with("ü end"), "{long}");
        assert!(long.chars().count() < 1000);
    }
}
