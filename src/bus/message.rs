//! Messages as the rest of the program sees them.
//!
//! Header values are short fixed words and numbers. That is enforced here, because a line break in
//! a header value would panic the client that sends it.

use std::fmt::Display;

use bytes::Bytes;

use peerbus_identity::SigningInput;
use peerbus_protocol::signature::SIGNATURE;

/// A message that arrived.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Where it was said.
    pub subject: String,
    /// Where an answer is wanted.
    pub reply: Option<String>,
    /// Its headers.
    pub headers: Headers,
    /// Its bytes.
    pub payload: Bytes,
    /// Whether this is the server's word that nobody listens to what was said.
    pub no_responders: bool,
    /// The server's own word, where this is one: 100 that it is there, others that it gives up waiting.
    pub status: Option<u16>,
}

/// The headers of a message that arrived.
#[derive(Debug, Clone, Default)]
pub struct Headers(Option<Box<async_nats::HeaderMap>>);

impl Headers {
    /// Headers that were kept somewhere: name and value. Characters a header cannot carry are left out.
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

/// A message to be said.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub(super) subject: String,
    pub(super) reply: Option<String>,
    pub(super) headers: Option<async_nats::HeaderMap>,
    pub(super) payload: Bytes,
    pub(super) sealed: bool,
}

impl Incoming {
    /// The message, as far as a seal covers it, for whoever checks that.
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
    /// Begins a message to a subject.
    #[must_use]
    pub fn to(subject: &str) -> Self {
        Self { subject: subject.to_owned(), reply: None, headers: None, payload: Bytes::new(), sealed: false }
    }

    /// Where an answer is wanted.
    #[must_use]
    pub fn reply(mut self, subject: &str) -> Self {
        self.reply = Some(subject.to_owned());
        self
    }

    /// Adds a header: a fixed word or a number. Characters a header cannot carry are left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Display) -> Self {
        let mut value = value.to_string();
        value.retain(|c| !c.is_control());
        self.headers.get_or_insert_default().insert(name, value);
        self
    }

    /// Has it signed by whoever says it, where the fleet has identities.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.sealed = true;
        self
    }

    /// The signature it has, once it was sealed with [`super::Bus::sealed`].
    #[must_use]
    pub fn signature(&self) -> Option<String> {
        let headers = self.headers.as_ref()?;
        headers.get(SIGNATURE).map(|value| value.as_str().to_owned())
    }

    /// Sets the bytes.
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
