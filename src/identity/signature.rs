//! A seal: the headers by which a message proves who said it.
//!
//! Signed are the subject, the reply subject, the headers that mean something, and a digest of the
//! payload. So a message holds at the one place it was said to, with the one inbox its answers go to, and
//! as it was said. Each part is preceded by its length, so that no two messages have the same bytes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use thiserror::Error;

use super::file::IdentityFile;
use super::invite_token::Invitee;
use super::key::Key;
use super::trust_store::MembershipError;
use peerbus_protocol::identity::Name;
use peerbus_protocol::signature::{CHALLENGE, SIGNED_HEADERS, TIME};
pub(super) use peerbus_protocol::signature::{IDENTITY, SIGNATURE};

/// What the signed bytes begin with.
const PURPOSE: &[u8] = b"peerbus.seal.v1";

/// Why nobody is known to have said a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// There is no seal.
    #[error("it is not signed, and this fleet's members sign what they say")]
    Unsigned,
    /// The seal cannot be read.
    #[error("its signature cannot be read")]
    Malformed,
    /// Whoever signed it is no member.
    #[error(transparent)]
    NoMember(#[from] MembershipError),
    /// A member signed something else.
    #[error("it is not what {0} has signed")]
    Changed(Name),
}

/// A message, as far as a seal covers it.
pub struct SigningInput<'a> {
    /// Where it was said.
    pub subject: &'a str,
    /// Where an answer is wanted.
    pub reply: Option<&'a str>,
    /// Finds a header.
    pub headers: &'a dyn Fn(&str) -> Option<&'a str>,
    /// Its bytes.
    pub payload: &'a [u8],
}

impl<'a> SigningInput<'a> {
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        (self.headers)(name)
    }

    /// When it was said, in milliseconds since 1970, by its speaker's clock.
    #[must_use]
    pub fn time_ms(&self) -> Option<i64> {
        self.header(TIME)?.parse().ok()
    }

    /// The challenge it answers.
    #[must_use]
    pub fn challenge(&self) -> Option<&'a str> {
        self.header(CHALLENGE)
    }

    /// What is signed.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let digest = blake3::hash(self.payload);
        let mut bytes = Vec::with_capacity(512);
        let mut part = |part: Option<&[u8]>| match part {
            Some(part) => {
                bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
                bytes.extend_from_slice(part);
            }
            None => bytes.extend_from_slice(&u64::MAX.to_be_bytes()),
        };
        part(Some(PURPOSE));
        part(Some(self.subject.as_bytes()));
        part(self.reply.map(str::as_bytes));
        for name in SIGNED_HEADERS {
            part(self.header(name).map(str::as_bytes));
        }
        part(Some(digest.as_bytes()));
        bytes
    }
}

pub(super) fn signature(text: &str) -> Result<Vec<u8>, SignatureError> {
    BASE64.decode(text).map_err(|_| SignatureError::Malformed)
}

/// Seals what one identity says.
#[derive(Debug, Clone)]
pub struct MessageSigner {
    token: String,
    key: Key,
}

impl MessageSigner {
    /// The seal of an identity.
    #[must_use]
    pub fn of(identity: &IdentityFile) -> Self {
        Self { token: identity.token.clone(), key: identity.key.clone() }
    }

    /// The seal of whoever holds an invitation.
    #[must_use]
    pub fn of_guest(guest: &Invitee) -> Self {
        Self { token: guest.token.clone(), key: guest.key.clone() }
    }

    /// The identity's token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Signs what is no message: a server's nonce.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.key.sign(bytes)
    }

    /// The headers that seal a message: name and value.
    #[must_use]
    pub fn headers(&self, parts: &SigningInput<'_>) -> [(&'static str, String); 2] {
        let signature = BASE64.encode(self.key.sign(&parts.bytes()));
        [(IDENTITY, self.token.clone()), (SIGNATURE, signature)]
    }
}
