//! Incoming and outgoing messages.
//!
//! Header values are short fixed words and numbers. This module enforces that, because the client
//! library panics on a line break in a header value.

use std::fmt::Display;

use bytes::Bytes;

use peerbus_identity::SigningInput;
use peerbus_protocol::signature::SIGNATURE;

/// An incoming message.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its subject.
    pub subject: String,
    /// Its reply subject.
    pub reply: Option<String>,
    /// Its headers.
    pub headers: Headers,
    /// Its payload.
    pub payload: Bytes,
    /// Whether this is the server's notice that the subject has no subscribers.
    pub no_responders: bool,
    /// The server's status code, if the server sent this message itself: 100 is a heartbeat, others end
    /// a pull.
    pub status: Option<u16>,
}

/// The headers of an incoming message.
#[derive(Debug, Clone, Default)]
pub struct Headers(Option<Box<async_nats::HeaderMap>>);

impl Headers {
    /// Headers from stored names and values. Drops characters that a header cannot carry.
    #[must_use]
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in pairs {
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            headers.insert(name, value);
        }
        Self(Some(Box::new(headers)))
    }

    /// The value of one header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.get(name).map(async_nats::HeaderValue::as_str)
    }

    /// The value of one header as a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

/// An outgoing message.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub(super) subject: String,
    pub(super) reply: Option<String>,
    pub(super) headers: Option<async_nats::HeaderMap>,
    pub(super) payload: Bytes,
    pub(super) sealed: bool,
}

impl Incoming {
    /// The parts of the message that its signature covers, for a verifier.
    #[must_use]
    pub fn sealed_parts<'a>(&'a self, header: &'a dyn Fn(&str) -> Option<&'a str>) -> SigningInput<'a> {
        SigningInput {
            subject: &self.subject,
            reply: self.reply.as_deref(),
            headers: header,
            payload: &self.payload,
        }
    }
}

impl Outgoing {
    /// Starts a message to a subject.
    #[must_use]
    pub fn to(subject: &str) -> Self {
        Self { subject: subject.to_owned(), reply: None, headers: None, payload: Bytes::new(), sealed: false }
    }

    /// Sets the reply subject.
    #[must_use]
    pub fn reply(mut self, subject: &str) -> Self {
        self.reply = Some(subject.to_owned());
        self
    }

    /// Adds a header: a fixed word or a number. Drops characters that a header cannot carry.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Display) -> Self {
        let mut value = value.to_string();
        value.retain(|c| !c.is_control());
        self.headers.get_or_insert_default().insert(name, value);
        self
    }

    /// Requests a signature by the sender, in a fleet with identities.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.sealed = true;
        self
    }

    /// Its signature, after [`super::Bus::sealed`].
    #[must_use]
    pub fn signature(&self) -> Option<String> {
        let headers = self.headers.as_ref()?;
        headers.get(SIGNATURE).map(|value| value.as_str().to_owned())
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = payload.into();
        self
    }
}

pub(super) fn incoming(message: async_nats::Message) -> Incoming {
    Incoming {
        no_responders: message.status == Some(async_nats::StatusCode::NO_RESPONDERS),
        status: message.status.map(|status| status.as_u16()),
        subject: message.subject.into_string(),
        reply: message.reply.map(async_nats::Subject::into_string),
        headers: Headers(message.headers.map(Box::new)),
        payload: message.payload,
    }
}

pub(super) async fn publish(
    client: &async_nats::Client,
    message: Outgoing,
) -> Result<(), async_nats::PublishError> {
    let Outgoing { subject, reply, headers, payload, sealed: _ } = message;
    match (reply, headers) {
        (None, None) => client.publish(subject, payload).await,
        (None, Some(headers)) => client.publish_with_headers(subject, headers, payload).await,
        (Some(reply), None) => client.publish_with_reply(subject, reply, payload).await,
        (Some(reply), Some(headers)) => {
            client.publish_with_reply_and_headers(subject, reply, headers, payload).await
        }
    }
}
