//! NATS nkeys: ed25519 keys whose first letter states their kind.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Length of a raw seed, in bytes.
pub(super) const RAW: usize = 32;

/// Length of a public key with its prefix and checksum, in bytes.
pub(super) const PACKED: usize = 35;

/// Why a text is not a key. Never contains the text, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("it is no key of NATS (nkey): {0}")]
pub struct BadKey(&'static str);

/// A key pair.
#[derive(Clone)]
pub struct Key {
    pair: KeyPair,
    public: PublicKey,
}

impl Key {
    /// Creates a key for a fleet.
    #[must_use]
    pub fn of_fleet() -> Self {
        Self::made(KeyPairType::Operator)
    }

    /// Creates a key for an account, or one of its signing keys.
    #[must_use]
    pub fn of_account() -> Self {
        Self::made(KeyPairType::Account)
    }

    /// Creates a key for an identity.
    #[must_use]
    pub fn of_identity() -> Self {
        Self::made(KeyPairType::User)
    }

    fn made(kind: KeyPairType) -> Self {
        Self::from_pair(KeyPair::new(kind))
    }

    fn from_pair(pair: KeyPair) -> Self {
        let public = PublicKey(pair.public_key());
        Self { pair, public }
    }

    /// Reads a key from its seed.
    ///
    /// # Errors
    /// If the seed is invalid.
    pub fn from_seed(seed: &str) -> Result<Self, BadKey> {
        let pair = KeyPair::from_seed(seed.trim()).map_err(|_| BadKey("a seed begins with S"))?;
        Ok(Self::from_pair(pair))
    }

    /// The seed, as stored in a file.
    #[must_use]
    pub fn seed(&self) -> String {
        // Every pair in here was generated or read from a seed, so it has one.
        self.pair.seed().unwrap_or_default()
    }

    /// The raw seed.
    pub(super) fn raw(&self) -> [u8; RAW] {
        // We generated this seed, so it decodes.
        nkeys::decode_seed(&self.seed()).map(|(_, raw)| raw).unwrap_or_default()
    }

    /// An identity's key from its raw seed.
    ///
    /// # Errors
    /// If the seed is invalid.
    pub(super) fn of_identity_from(raw: [u8; RAW]) -> Result<Self, BadKey> {
        let pair = KeyPair::new_from_raw(KeyPairType::User, raw);
        pair.map(Self::from_pair).map_err(|_| BadKey("no key has this secret"))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        // Signing fails only without a seed.
        self.pair.sign(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key of {}", self.public)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for Key {}

/// A public key; well formed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(String);

impl PublicKey {
    /// The key in the text form of NATS.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key in binary form.
    pub(super) fn packed(&self) -> Vec<u8> {
        // Cannot fail: the text is well formed.
        BASE32_NOPAD.decode(self.0.as_bytes()).unwrap_or_default()
    }

    /// Reads a key from its binary form.
    pub(super) fn from_packed(bytes: &[u8]) -> Result<Self, BadKey> {
        BASE32_NOPAD.encode(bytes).parse()
    }

    /// Whether this is the key of an identity, not of an account or a fleet.
    #[must_use]
    pub fn is_of_an_identity(&self) -> bool {
        self.0.starts_with('U')
    }

    /// Whether this key made the signature of these bytes.
    #[must_use]
    pub fn signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        KeyPair::from_public_key(&self.0).is_ok_and(|pair| pair.verify(bytes, signature).is_ok())
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        if !text.is_ascii() {
            return Err(BadKey("it holds a character that none has"));
        }
        // Verification later checks whether the key is a point of the curve. That is early enough, and
        // keeps lists of thousands of keys fast.
        match nkeys::from_public_key(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(BadKey("56 letters and digits, the last of them a checksum, are wanted")),
        }
    }
}

impl TryFrom<String> for PublicKey {
    type Error = BadKey;

    fn try_from(text: String) -> Result<Self, BadKey> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_key_signs_no_other_has_signed() {
        let (key, other) = (Key::of_identity(), Key::of_identity());
        let signature = key.sign(b"words");
        assert!(key.public().signed(b"words", &signature));
        assert!(!key.public().signed(b"Words", &signature));
        assert!(!other.public().signed(b"words", &signature));
        assert!(!key.public().signed(b"words", &signature[1..]));
        assert!(!key.public().signed(b"words", &[]));
    }

    #[test]
    fn a_key_is_kept_by_its_seed_and_never_shown() {
        let key = Key::of_account();
        assert_eq!(Key::from_seed(&key.seed()).expect("a seed"), key);
        assert!(!format!("{key:?}").contains(&key.seed()));
        for bad in ["", "S", "SUABC", "ü", &key.public().to_string()] {
            assert!(Key::from_seed(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "U", "üüüüüüüüüüüüüüüüüüüüüüüüüüüü", &key.seed(), &"B".repeat(56)]
        {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad:?}");
        }
    }
}
