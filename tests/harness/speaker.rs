//! A client that can send any message, signed with any identity it has.

use std::time::{SystemTime, UNIX_EPOCH};

use peerbus_identity::{IdentityFile, MessageSigner, SigningInput};
use serde_json::{Value, json};

use crate::nats::{Message, Raw};

/// A message whose parts can all be changed after it was signed.
#[derive(Debug, Clone)]
pub struct Said {
    pub subject: String,
    pub reply: String,
    pub headers: Vec<(String, String)>,
    pub payload: Vec<u8>,
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl Said {
    /// An unsigned message.
    pub fn unsigned(subject: &str, reply: &str, payload: impl Into<Vec<u8>>) -> Said {
        let (subject, reply) = (subject.to_owned(), reply.to_owned());
        Said { subject, reply, headers: Vec::new(), payload: payload.into() }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Said {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Signs it with the current time.
    pub fn signed(self, by: &IdentityFile) -> Said {
        self.signed_at(by, now_ms())
    }

    /// Signs it with this time.
    pub fn signed_at(self, by: &IdentityFile, now_ms: i64) -> Said {
        let said = self.header("D-Time", now_ms);
        let find =
            |name: &str| said.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let seal = MessageSigner::of(by).headers(&SigningInput {
            subject: &said.subject,
            reply: Some(&said.reply).filter(|reply| !reply.is_empty()).map(String::as_str),
            headers: &find,
            payload: &said.payload,
        });
        seal.into_iter().fold(said.clone(), |said, (name, value)| said.header(name, value))
    }

    /// Publishes it.
    pub fn say(&self, on: &mut Raw) {
        let mut headers = b"NATS/1.0\r\n".to_vec();
        for (name, value) in &self.headers {
            headers.extend(format!("{name}: {value}\r\n").bytes());
        }
        headers.extend(b"\r\n");
        on.publish_bytes(self.subject.as_bytes(), self.reply.as_bytes(), Some(&headers), &self.payload);
    }

    /// An exact copy of a received message.
    pub fn again(message: &Message) -> Said {
        let reply = message.reply.clone().unwrap_or_default();
        let (subject, headers) = (message.subject.clone(), message.headers.clone());
        Said { subject, reply, headers, payload: message.payload.clone() }
    }
}

/// A new job id.
pub fn job_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// A stream request.
pub fn request(id: &str, line: &str) -> Value {
    json!({ "type": "peerbus.exec.v1", "id": id, "directory": "/", "shell_cmd": line, "stream": { "window": 65536 } })
}
