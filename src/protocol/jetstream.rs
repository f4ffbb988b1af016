//! JetStream requests and answers: the few that the queue needs, as plain JSON.
//!
//! The client library's JetStream API is not used: it needs more permissions, and its own inboxes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::PeerId;
use super::decode::{self, BadMessage};
use super::queue::STREAM;

/// Subject prefix of every JetStream request.
const API: &str = "$JS.API";

/// Error: the stream does not exist.
pub const NO_STREAM: u32 = 10_059;
/// Error: the consumer does not exist.
pub const NO_CONSUMER: u32 = 10_014;
/// Error: the message does not exist.
pub const NO_MESSAGE: u32 = 10_037;
/// Error: the message to delete does not exist.
pub const NO_MESSAGE_TO_DELETE: u32 = 10_057;
/// Error: JetStream is enabled on the server, but not for the account.
pub const NOT_FOR_ACCOUNT: u32 = 10_039;
/// Error: a message with this subject is already stored.
pub const SUBJECT_TAKEN: u32 = 10_077;

/// Returns the stream's configuration and state.
#[must_use]
pub fn stream_info() -> String {
    format!("{API}.STREAM.INFO.{STREAM}")
}

/// Creates the stream.
#[must_use]
pub fn create_stream() -> String {
    format!("{API}.STREAM.CREATE.{STREAM}")
}

/// Updates the stream.
#[must_use]
pub fn update_stream() -> String {
    format!("{API}.STREAM.UPDATE.{STREAM}")
}

/// Returns one message of the stream.
#[must_use]
pub fn get_message() -> String {
    format!("{API}.STREAM.MSG.GET.{STREAM}")
}

/// Deletes one message from the stream.
#[must_use]
pub fn delete_message() -> String {
    format!("{API}.STREAM.MSG.DELETE.{STREAM}")
}

/// Creates a peer's consumer, or returns the existing one.
#[must_use]
pub fn create_consumer(peer: &PeerId) -> String {
    format!("{API}.CONSUMER.CREATE.{STREAM}.{peer}")
}

/// Returns the state of a peer's consumer.
#[must_use]
pub fn consumer_info(peer: &PeerId) -> String {
    format!("{API}.CONSUMER.INFO.{STREAM}.{peer}")
}

/// Fetches the next message for a peer.
#[must_use]
pub fn next_message(peer: &PeerId) -> String {
    format!("{API}.CONSUMER.MSG.NEXT.{STREAM}.{peer}")
}

/// Whether a reply subject acknowledges deliveries to this peer. It has no other use.
#[must_use]
pub fn is_confirmation(subject: &str, peer: &PeerId) -> bool {
    let Some(rest) = subject.strip_prefix("$JS.ACK.") else { return false };
    let tokens: Vec<&str> = rest.split('.').collect();
    let plain = tokens.iter().all(|token| {
        !token.is_empty() && token.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    });
    // Later servers put their domain and the account before the stream.
    let named = |at: usize| tokens.get(at) == Some(&STREAM) && tokens.get(at + 1) == Some(&peer.as_str());
    plain && (named(0) || named(2)) && subject.len() <= 255
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{description} ({err_code})")]
pub struct ApiError {
    /// JetStream's error code.
    #[serde(default)]
    pub err_code: u32,
    /// The server's description.
    #[serde(default)]
    pub description: String,
}

/// The stream's configuration and state.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct StreamInfo {
    /// Its configuration.
    pub config: serde_json::Value,
    /// Its state.
    pub state: StreamState,
    /// Total number of matching subjects.
    #[serde(default)]
    pub total: usize,
}

/// The state of the stream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct StreamState {
    /// Number of messages.
    #[serde(default)]
    pub messages: u64,
    /// Highest sequence number ever used.
    #[serde(default)]
    pub last_seq: u64,
    /// Matching subjects, with their message counts.
    #[serde(default)]
    pub subjects: std::collections::BTreeMap<String, u64>,
}

/// Acknowledges that a message was stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PublishAck {
    /// The stream.
    pub stream: String,
    /// The sequence number.
    pub seq: u64,
}

/// The state of a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ConsumerInfo {
    /// Its deliveries.
    pub delivered: Delivered,
}

/// Deliveries of a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Delivered {
    /// Highest delivered sequence number.
    pub stream_seq: u64,
}

/// Acknowledges an operation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Done {}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its subject.
    pub subject: String,
    /// Its sequence number.
    pub seq: u64,
    /// When the server stored it.
    pub time: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl StoredMessage {
    /// The value of one header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Deserialize)]
struct Got {
    message: Encoded,
}

#[derive(Deserialize)]
struct Encoded {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    #[serde(default)]
    time: String,
}

#[derive(Deserialize)]
struct Failed {
    error: Option<ApiError>,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JetStreamError {
    /// JetStream returned an error.
    #[error(transparent)]
    Declined(#[from] ApiError),
    /// The answer is malformed.
    #[error("JetStream's answer cannot be understood: {0}")]
    Malformed(#[from] BadMessage),
}

/// Decodes an answer.
///
/// # Errors
/// The error that JetStream returned, or what is malformed.
pub fn answer<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, JetStreamError> {
    if let Failed { error: Some(error) } = decoded(payload)? {
        let description = readable(&error.description);
        return Err(JetStreamError::Declined(ApiError { description, ..error }));
    }
    decoded(payload)
}

fn decoded<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, JetStreamError> {
    decode::json(payload).map_err(|bad| JetStreamError::Malformed(BadMessage(readable(&bad.0))))
}

/// Makes a foreign sentence safe to display.
fn readable(sentence: &str) -> String {
    decode::readable(&sentence.chars().filter(|c| !c.is_control()).collect::<String>())
}

/// Decodes an answer that contains a stored message.
///
/// # Errors
/// As [`answer`].
pub fn message(payload: &[u8]) -> Result<StoredMessage, JetStreamError> {
    let Got { message } = answer(payload)?;
    let bytes = |field: &str, text: &str| {
        BASE64.decode(text).map_err(|_| BadMessage(format!("field `message.{field}`: it is not base64")))
    };
    Ok(StoredMessage {
        headers: headers(&String::from_utf8_lossy(&bytes("hdrs", &message.hdrs)?)),
        payload: bytes("data", &message.data)?,
        subject: message.subject,
        seq: message.seq,
        time: message.time,
    })
}

/// Parses the raw header block of a stored message.
fn headers(block: &str) -> Vec<(String, String)> {
    let lines = block.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_from_an_answer() {
        let error = br#"{"error":{"code":404,"err_code":10059,"description":"stream not found"},"total":0}"#;
        let error = answer::<StreamInfo>(error).expect_err("an error");
        assert!(matches!(&error, JetStreamError::Declined(error) if error.err_code == NO_STREAM), "{error}");
        let stored: PublishAck =
            answer(br#"{"stream":"QUEUE","seq":7,"duplicate":true}"#).expect("an answer");
        assert_eq!(stored.seq, 7);
        for bad in [&b"[]"[..], b"{}", b"hello", b""] {
            assert!(matches!(answer::<PublishAck>(bad), Err(JetStreamError::Malformed(_))));
        }
    }

    #[test]
    fn a_message_is_decoded_with_its_headers() {
        let block = BASE64.encode("NATS/1.0\r\nD-Time: 17\r\nD-Identity:x:y\r\n\r\n");
        let text = format!(
            r#"{{"message":{{"subject":"queue.w1.x","seq":4,"hdrs":"{block}","data":"e30=","time":"t"}}}}"#
        );
        let message = message(text.as_bytes()).expect("a message");
        assert_eq!((message.subject.as_str(), message.seq), ("queue.w1.x", 4));
        assert_eq!((message.header("D-Time"), message.header("D-Identity")), (Some("17"), Some("x:y")));
        assert_eq!((message.header("D-Signature"), message.payload.as_slice()), (None, &b"{}"[..]));
        let bad = br#"{"message":{"subject":"queue.w1.x","seq":4,"data":"?"}}"#;
        assert!(super::message(bad).is_err());
    }

    #[test]
    fn a_delivery_is_confirmed_where_it_came_from_and_nowhere_else() {
        let w1: PeerId = "w1".parse().expect("valid");
        for good in ["$JS.ACK.QUEUE.w1.1.4.1.1795283110418972084.0", "$JS.ACK._.AB3x.QUEUE.w1.1.4.1.17.0.rnd"]
        {
            assert!(is_confirmation(good, &w1), "{good}");
        }
        for bad in [
            "",
            "_INBOX.x",
            "exec.w2",
            "$JS.ACK.QUEUE.w2.1.4.1.17.0",
            "$JS.ACK.OTHER.w1.1.4.1.17.0",
            "$JS.ACK.QUEUE.w1.*",
            "$JS.ACK.QUEUE.w1.>",
            "$JS.ACK.QUEUE.w1..1",
            "$JS.API.STREAM.DELETE.QUEUE",
        ] {
            assert!(!is_confirmation(bad, &w1), "{bad}");
        }
    }
}
