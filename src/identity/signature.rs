//! Message signatures: headers that prove the sender of a message.
//!
//! The signature covers the subject, the reply subject, the relevant headers and a digest of the
//! payload. So a message is valid only unchanged, on its own subject, with its own reply subject. The
//! signing input prefixes each part with its length, so that no two messages have the same input.

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

/// Prefix of the signing input.
const PURPOSE: &[u8] = b"peerbus.seal.v1";

/// Why the sender of a message is unproven.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The signature is missing.
    #[error("it is not signed, and this fleet's members sign what they say")]
    Unsigned,
    /// The signature is malformed.
    #[error("its signature cannot be read")]
    Malformed,
    /// The signer is not a member.
    #[error(transparent)]
    NoMember(#[from] MembershipError),
    /// A member signed other content.
    #[error("it is not what {0} has signed")]
    Changed(Name),
}

/// The parts of a message that its signature covers.
pub struct SigningInput<'a> {
    /// Its subject.
    pub subject: &'a str,
    /// Its reply subject.
    pub reply: Option<&'a str>,
    /// Looks up a header.
    pub headers: &'a dyn Fn(&str) -> Option<&'a str>,
    /// Its payload.
    pub payload: &'a [u8],
}

impl<'a> SigningInput<'a> {
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        (self.headers)(name)
    }

    /// Send time in milliseconds since 1970, by the sender's clock.
    #[must_use]
    pub fn time_ms(&self) -> Option<i64> {
        self.header(TIME)?.parse().ok()
    }

    /// The challenge that it answers.
    #[must_use]
    pub fn challenge(&self) -> Option<&'a str> {
        self.header(CHALLENGE)
    }

    /// The signing input.
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

/// Signs the messages of one identity.
#[derive(Debug, Clone)]
pub struct MessageSigner {
    token: String,
    key: Key,
}

impl MessageSigner {
    /// The signer of an identity.
    #[must_use]
    pub fn of(identity: &IdentityFile) -> Self {
        Self { token: identity.token.clone(), key: identity.key.clone() }
    }

    /// The signer of an invitation's guest.
    #[must_use]
    pub fn of_guest(guest: &Invitee) -> Self {
        Self { token: guest.token.clone(), key: guest.key.clone() }
    }

    /// The identity's token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Signs a server's nonce, which is not a message.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.key.sign(bytes)
    }

    /// The headers that sign a message: name and value.
    #[must_use]
    pub fn headers(&self, parts: &SigningInput<'_>) -> [(&'static str, String); 2] {
        let signature = BASE64.encode(self.key.sign(&parts.bytes()));
        [(IDENTITY, self.token.clone()), (SIGNATURE, signature)]
    }
}
