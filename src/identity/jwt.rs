//! NATS tokens: JSON Web Tokens, signed by an nkey.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::key::{Key, PublicKey};

/// Longest accepted token, in bytes. An account with thousands of revocations is well below it.
const LONGEST: usize = 1 << 20;

/// Why a token is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadToken {
    /// Not a token.
    #[error("it is no token: {0}")]
    Malformed(String),
    /// Not signed by its claimed issuer.
    #[error("its signature is not that of {0}")]
    Forged(PublicKey),
}

/// The common claims of all tokens, and those of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims<T> {
    /// The token's unique id.
    pub(super) jti: String,
    /// Issue time, in seconds since 1970.
    pub(super) iat: i64,
    /// Expiry, in seconds since 1970; `None` means no expiry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exp: Option<i64>,
    /// The issuer.
    pub(super) iss: PublicKey,
    /// The subject.
    pub(super) sub: PublicKey,
    #[serde(default)]
    pub(super) name: String,
    pub(super) nats: T,
}

#[derive(Serialize, Deserialize)]
struct Header {
    typ: String,
    alg: String,
}

const ALGORITHM: &str = "ed25519-nkey";

impl<T: Serialize> Claims<T> {
    /// Claims about a subject, issued at `iat`.
    pub(super) fn about(sub: &PublicKey, name: &str, by: &Key, iat: i64, nats: T) -> Self {
        let jti = uuid::Uuid::new_v4().simple().to_string();
        Self { jti, iat, exp: None, iss: by.public().clone(), sub: sub.clone(), name: name.to_owned(), nats }
    }

    /// The signed token.
    pub(super) fn signed(&self, by: &Key) -> String {
        self.with_signature(&by.sign(self.said().as_bytes()))
    }

    /// The token, with an existing signature.
    pub(super) fn with_signature(&self, signature: &[u8]) -> String {
        format!("{}.{}", self.said(), BASE64.encode(signature))
    }

    /// The signing input.
    pub(super) fn said(&self) -> String {
        let part = |json: Vec<u8>| BASE64.encode(json);
        let header = Header { typ: "JWT".to_owned(), alg: ALGORITHM.to_owned() };
        let header = part(peerbus_protocol::decode::to_json(&header));
        format!("{header}.{}", part(peerbus_protocol::decode::to_json(self)))
    }
}

impl<T: DeserializeOwned> Claims<T> {
    /// Reads a token that is signed by its claimed issuer. The caller decides whether to trust the
    /// issuer.
    pub(super) fn read(token: &str) -> Result<Self, BadToken> {
        let (claims, said, signature) = Self::parts(token)?;
        if !claims.iss.signed(said.as_bytes(), &signature) {
            return Err(BadToken::Forged(claims.iss));
        }
        Ok(claims)
    }

    /// Reads a token from our own private file, without checking its signature. Whoever can change that
    /// file has our secret too, so a check at each start of a command would gain nothing.
    pub(super) fn read_own(token: &str) -> Result<Self, BadToken> {
        Self::parts(token).map(|(claims, ..)| claims)
    }

    fn parts(token: &str) -> Result<(Self, &str, Vec<u8>), BadToken> {
        let wrong = |why: &str| BadToken::Malformed(why.to_owned());
        if token.len() > LONGEST {
            return Err(wrong("it is too long"));
        }
        let (said, signature) = token.rsplit_once('.').ok_or_else(|| wrong("it has no signature"))?;
        let (header, claims) = said.split_once('.').ok_or_else(|| wrong("it has no header"))?;
        let header: Header = part(header)?;
        if header.alg != ALGORITHM {
            return Err(BadToken::Malformed(format!("it is signed by other means than {ALGORITHM}")));
        }
        let claims: Self = part(claims)?;
        let signature = BASE64.decode(signature).map_err(|_| wrong("its signature is not base64"))?;
        Ok((claims, said, signature))
    }
}

fn part<T: DeserializeOwned>(text: &str) -> Result<T, BadToken> {
    let bytes = BASE64.decode(text).map_err(|_| BadToken::Malformed("it is not base64".to_owned()))?;
    serde_json::from_slice(&bytes).map_err(|error| BadToken::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Nothing {}

    fn claims(by: &Key) -> Claims<Nothing> {
        Claims::about(Key::of_identity().public(), "a", by, 1, Nothing {})
    }

    #[test]
    fn a_token_is_read_as_it_was_signed() {
        let key = Key::of_account();
        let claims = claims(&key);
        assert_eq!(Claims::read(&claims.signed(&key)), Ok(claims));
    }

    #[test]
    fn another_key_or_another_byte_makes_it_worthless() {
        let (key, other) = (Key::of_account(), Key::of_account());
        let token = claims(&key).signed(&key);
        let by_another = claims(&key).signed(&other);
        assert!(matches!(Claims::<Nothing>::read(&by_another), Err(BadToken::Forged(_))));
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ascii");
            // The last base64 character holds unused bits.
            let same = changed.len() - 1 == at && Claims::<Nothing>::read(&changed).is_ok();
            assert!(same || Claims::<Nothing>::read(&changed).is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let unsigned = "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.e30.";
        for bad in ["", ".", "..", "a.b.c", "ü.ü.ü", unsigned, &".".repeat(LONGEST + 1)] {
            assert!(matches!(Claims::<Nothing>::read(bad), Err(BadToken::Malformed(_))), "{bad:.20}");
        }
    }
}
