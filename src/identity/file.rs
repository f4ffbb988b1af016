//! An identity file, readable by its owner alone.
//!
//! It starts as a NATS credentials file, so that the `nats` command line accepts it: the identity's
//! token and its seed. Then follow the fleet's public key, which verifies all other documents, and the
//! fleet's account at the time of writing.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use thiserror::Error;

use super::account::{Account, BadAccount};
use super::key::{BadKey, Key, PublicKey};
use super::trust_store::{self, Signer, TrustStore};

const TOKEN: &str = "NATS USER JWT";
const SEED: &str = "USER NKEY SEED";
const FLEET: &str = "PEERBUS FLEET KEY";
const ACCOUNT: &str = "PEERBUS FLEET ACCOUNT";

/// Why an identity file is invalid. Names the file, never its content.
#[derive(Debug, Error)]
pub enum BadIdentity {
    /// The file cannot be read or written.
    #[error("the identity {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Other users can read or change the file.
    #[error(
        "the identity {path} has the rights {mode:o}: others could use it; `chmod 600 {path}` takes them away"
    )]
    Exposed {
        /// The file.
        path: String,
        /// Its mode bits.
        mode: u32,
    },
    /// A part is missing or inconsistent.
    #[error("the identity {path}: {why}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// An identity with its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityFile {
    /// The identity token; not secret.
    pub token: String,
    /// Its key.
    pub key: Key,
    /// The fleet's key.
    pub fleet: PublicKey,
    /// The fleet's account, signed.
    pub account: String,
}

impl IdentityFile {
    /// Whether a file holds an identity of a fleet, not only NATS credentials.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        // Accept any block of ours: an incomplete identity must fail, not pass as plain NATS
        // credentials.
        text.contains("BEGIN PEERBUS")
    }

    /// Reads an identity. `None` if the file holds only NATS credentials.
    ///
    /// # Errors
    /// If other users can read the file, or it is incomplete.
    pub fn read(path: &Path) -> Result<Option<Self>, BadIdentity> {
        let shown = || path.display().to_string();
        let io = |source| BadIdentity::Io { path: shown(), source };
        let text = fs::read_to_string(path).map_err(io)?;
        if !Self::is_one(&text) {
            return Ok(None);
        }
        let mode = fs::metadata(path).map_err(io)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(BadIdentity::Exposed { path: shown(), mode });
        }
        Self::parse(&text).map(Some).map_err(|why| BadIdentity::Malformed { path: shown(), why })
    }

    /// Parses the text of an identity file. [`IdentityFile::checked`] checks whether its parts are
    /// consistent.
    ///
    /// # Errors
    /// A sentence that names the missing or inconsistent part.
    pub fn parse(text: &str) -> Result<Self, String> {
        let block = |name: &str| {
            let begin = format!("-----BEGIN {name}-----");
            let mut lines = text.lines().skip_while(|line| line.trim() != begin).skip(1);
            lines.next().map(str::trim).filter(|line| !line.is_empty()).ok_or(format!("it has no {name}"))
        };
        let key = |bad: BadKey, what: &str| format!("its {what}: {bad}");
        Ok(Self {
            token: block(TOKEN)?.to_owned(),
            key: Key::from_seed(block(SEED)?).map_err(|bad| key(bad, "seed"))?,
            fleet: block(FLEET)?.parse().map_err(|bad| key(bad, "fleet key"))?,
            account: block(ACCOUNT)?.to_owned(),
        })
    }

    /// The identity, by its own documents.
    ///
    /// # Errors
    /// A sentence that names the inconsistent part.
    pub fn signer(&self) -> Result<Signer, String> {
        self.checked().map(|(signer, _)| signer)
    }

    /// The identity, and its trust store.
    ///
    /// # Errors
    /// A sentence that names the inconsistent part.
    pub fn checked(&self) -> Result<(Signer, TrustStore), String> {
        let account = Account::read_own(&self.account, &self.fleet);
        let account = account.map_err(|bad: BadAccount| bad.to_string())?;
        let signer = trust_store::own_identity(&self.token, &account).map_err(|bad| bad.to_string())?;
        if signer.key != *self.key.public() {
            return Err("its token and its secret are of different identities".to_owned());
        }
        Ok((signer, TrustStore::of(self.fleet.clone(), &self.account, account)))
    }

    /// Writes the file atomically, readable by its owner alone.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), BadIdentity> {
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(self.text().as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|source| BadIdentity::Io { path: path.display().to_string(), source })
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let blocks = [
            (TOKEN, self.token.as_str(), "NATS USER JWT"),
            (SEED, &self.key.seed(), "USER NKEY SEED"),
            (FLEET, self.fleet.as_str(), FLEET),
            (ACCOUNT, &self.account, ACCOUNT),
        ];
        blocks
            .map(|(begin, text, end)| format!("-----BEGIN {begin}-----\n{text}\n------END {end}------\n"))
            .join("\n")
    }
}

impl fmt::Debug for IdentityFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an identity with {:?}", self.key)
    }
}
