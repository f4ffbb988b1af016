//! Our membership in a fleet with identities: signs our messages and verifies those of others.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Incoming, Outgoing};
use peerbus_identity::{
    Account, IdentityFile, MessageSigner, SignatureError, Signer, SigningInput, TrustStore,
};
use peerbus_protocol::signature::TIME;

/// Our membership in a fleet.
#[derive(Clone)]
pub struct Signing {
    own: Signer,
    seal: MessageSigner,
    trust: TrustStore,
}

impl Signing {
    /// Our membership by this identity.
    ///
    /// # Errors
    /// If the documents of the identity are inconsistent.
    pub fn new(identity: &IdentityFile) -> Result<Self, String> {
        let (own, trust) = identity.checked()?;
        Ok(Self { own, seal: MessageSigner::of(identity), trust })
    }

    /// Our identity token; not secret.
    pub(super) fn token(&self) -> &str {
        self.seal.token()
    }

    /// Signs a server's nonce.
    pub(super) fn sign(&self, nonce: &[u8]) -> Vec<u8> {
        self.seal.sign(nonce)
    }

    /// Our own identity.
    #[must_use]
    pub fn own(&self) -> &Signer {
        &self.own
    }

    /// The keys and account we trust.
    #[must_use]
    pub fn trust(&self) -> &TrustStore {
        &self.trust
    }

    /// The newest account received.
    #[must_use]
    pub fn account(&self) -> Account {
        self.trust.account()
    }

    /// The verified sender of a message.
    ///
    /// # Errors
    /// If the signature is missing or invalid.
    pub fn speaker(&self, message: &Incoming) -> Result<Signer, SignatureError> {
        let header = |name: &str| message.headers.get(name);
        self.trust.signer(&message.sealed_parts(&header))
    }

    /// Signs an outgoing message.
    pub(super) fn sealed(&self, message: Outgoing) -> Outgoing {
        sealed_by(&self.seal, message)
    }
}

/// Signs an outgoing message.
pub(super) fn sealed_by(seal: &MessageSigner, message: Outgoing) -> Outgoing {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let message = message.header(TIME, now);
    let headers = message.headers.clone().unwrap_or_default();
    let header = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
    let seal = seal.headers(&SigningInput {
        subject: &message.subject,
        reply: message.reply.as_deref(),
        headers: &header,
        payload: &message.payload,
    });
    seal.into_iter().fold(message, |message, (name, value)| message.header(name, value))
}

impl PartialEq for Signing {
    fn eq(&self, other: &Self) -> bool {
        self.token() == other.token()
    }
}

impl Eq for Signing {}
