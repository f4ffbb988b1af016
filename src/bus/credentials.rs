//! Our credentials for the server. No output ever contains them.

use std::fmt;
use std::path::Path;

use thiserror::Error;

use super::signing::Signing;
use peerbus_identity::{BadIdentity, IdentityFile, Invitee, Key};

/// Why credentials are unusable. Names the file, never its content.
#[derive(Debug, Error)]
pub enum BadCredentials {
    /// The file is unreadable.
    #[error("reading the credentials {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file holds an unusable identity of a fleet.
    #[error(transparent)]
    Identity(#[from] BadIdentity),
    /// The file is not a credentials file as `nsc` or `nats auth` write it.
    #[error("the credentials {path} have no {missing}")]
    Malformed {
        /// The file.
        path: String,
        /// The missing part.
        missing: &'static str,
    },
}

/// Our credentials for the server.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// No credentials.
    #[default]
    None,
    /// A shared secret.
    Token(String),
    /// A user with a password.
    UserPassword {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A bare nkey, as its seed.
    Nkey(String),
    /// An identity of a fleet, which also signs messages and verifies other members.
    Identity(Box<Signing>),
    /// The holder of an invitation to a fleet.
    Guest(Box<Invitee>),
    /// A user JWT with the seed of its key, as in a `.creds` file.
    Jwt {
        /// The JWT.
        jwt: String,
        /// The seed.
        seed: String,
    },
}

impl Credentials {
    /// Reads a `.creds` file of NATS, or an identity file of a fleet.
    ///
    /// # Errors
    /// If the file is unreadable, or lacks the JWT or the seed; for an identity also if others may read
    /// it.
    pub fn from_file(path: &Path) -> Result<Self, BadCredentials> {
        let shown = path.display().to_string();
        if let Some(identity) = IdentityFile::read(path)? {
            let member =
                Signing::new(&identity).map_err(|why| BadIdentity::Malformed { path: shown.clone(), why })?;
            return Ok(Self::Identity(Box::new(member)));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|source| BadCredentials::Unreadable { path: shown.clone(), source })?;
        let block = |name: &str| {
            let begin = format!("BEGIN {name}");
            let mut lines = text.lines().skip_while(|line| !line.contains(&begin)).skip(1);
            lines.next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
        };
        let missing = |missing| BadCredentials::Malformed { path: shown.clone(), missing };
        let jwt = block("NATS USER JWT").ok_or_else(|| missing("user JWT"))?;
        let seed = block("USER NKEY SEED").ok_or_else(|| missing("user nkey seed"))?;
        Ok(Self::Jwt { jwt, seed })
    }

    /// The answer to a server's nonce.
    pub(super) fn answer(&self, nonce: &[u8]) -> Result<async_nats::Auth, String> {
        let mut auth = async_nats::Auth::new();
        let signs = matches!(self, Self::Nkey(_) | Self::Jwt { .. } | Self::Guest(_) | Self::Identity(_));
        if signs && !is_nonce(nonce) {
            return Err("the server wants something signed that is no nonce of a nats-server".to_owned());
        }
        match self {
            Self::None => {}
            Self::Token(token) => auth.token = Some(token.clone()),
            Self::UserPassword { user, password } => {
                auth.username = Some(user.clone());
                auth.password = Some(password.clone());
            }
            Self::Nkey(seed) => {
                let key = key(seed)?;
                auth.nkey = Some(key.public().to_string());
                auth.signature = Some(key.sign(nonce));
            }
            Self::Jwt { jwt, seed } => {
                auth.jwt = Some(jwt.clone());
                auth.signature = Some(key(seed)?.sign(nonce));
            }
            Self::Guest(guest) => {
                auth.jwt = Some(guest.token.clone());
                auth.signature = Some(guest.key.sign(nonce));
            }
            Self::Identity(member) => {
                auth.jwt = Some(member.token().to_owned());
                auth.signature = Some(member.sign(nonce));
            }
        }
        Ok(auth)
    }
}

/// Whether this looks like a nonce of nats-server: a short random word. Otherwise a malicious server
/// could make us sign a whole message. A message's signing input starts with zero bytes, so it never
/// passes.
fn is_nonce(nonce: &[u8]) -> bool {
    const LONGEST: usize = 64;
    let is_of_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    // A server without authentication sends no nonce.
    nonce.len() <= LONGEST && nonce.iter().all(is_of_base64)
}

fn key(seed: &str) -> Result<Key, String> {
    Key::from_seed(seed).map_err(|bad| format!("the seed: {bad}"))
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Token(_) => "a token",
            Self::UserPassword { .. } => "a user with a password",
            Self::Nkey(_) => "an nkey",
            Self::Jwt { .. } => "a user JWT",
            Self::Identity(_) => "an identity",
            Self::Guest(_) => "an invitation",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_its_nonce_signed_and_nothing_else() {
        let credentials = Credentials::Nkey(Key::of_identity().seed());
        credentials.answer(b"aB3_-xyzAB12345").expect("a nonce");
        // The start of a message's signing input, and characters that could hide one.
        let seal = [&15_u64.to_be_bytes()[..], b"peerbus.seal.v1"].concat();
        credentials.answer(b"").expect("a server that asks for nothing");
        for bad in [&seal[..], b"a nonce", "ü".as_bytes(), b"a\n", &[b'a'; 65]] {
            credentials.answer(bad).map(drop).expect_err("no nonce");
        }
        Credentials::Token("t".to_owned()).answer(b"").expect("nothing is signed");
    }
}
