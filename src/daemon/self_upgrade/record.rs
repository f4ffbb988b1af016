//! One attempt to become another version, as it is written down: `STATE_DIR/upgrade.json`.
//!
//! Whoever is next to act reads there how far it has come, whoever died before: `d daemon upgrade` asks, the
//! daemon tries, the new one is done, its guard gives up. It is replaced whole and forced to disk, and stays
//! as the record of the last attempt.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::commit::sync;
use peerbus_process::FileId;
use peerbus_protocol::{Instance, decode};

/// Its name below the state directory.
pub const FILE: &str = "upgrade.json";

const TYPE: &str = "peerbus.upgrade.v1";

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradePhase {
    /// It was asked for; the old daemon serves.
    Asked,
    /// The old daemon goes, or the new one is on trial.
    Trying,
    /// The new one serves and has its place.
    Done,
    /// The old one serves, or will when it is started.
    Failed,
}

impl UpgradePhase {
    /// The word used in files and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Trying => "trying",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// The attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpgradeRecord {
    /// Always `peerbus.upgrade.v1`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which attempt it is.
    pub id: Instance,
    /// How far it has come.
    pub phase: UpgradePhase,
    /// What it waits for, or why it failed.
    pub why: String,
    /// The program that is to be replaced.
    pub path: PathBuf,
    /// Where the new one lies until it has proved itself; none where it was put in place by somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<PathBuf>,
    /// Where the one before was kept, which somebody has put the new one in the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<PathBuf>,
    /// Which file the new one is.
    pub file: FileId,
    /// Its version.
    pub version: String,
    /// The version before it.
    pub before: String,
    /// When it began, UTC.
    pub at: String,
    /// When jobs that still run are stopped for it, in milliseconds since 1970; none means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs_until_ms: Option<u64>,
    /// How long the new one may take until it is done.
    pub ready_within_ms: u64,
}

/// Why a record says nothing.
#[derive(Debug, thiserror::Error)]
#[error("reading {}: {why}", path.display())]
pub struct BadUpgradeRecord {
    path: PathBuf,
    why: String,
}

impl UpgradeRecord {
    /// One that begins.
    #[must_use]
    pub fn new(path: PathBuf, staged: Option<PathBuf>, file: FileId, version: String) -> Self {
        Self {
            kind: TYPE.to_owned(),
            id: Instance::new(),
            phase: UpgradePhase::Asked,
            why: String::new(),
            path,
            staged,
            kept: None,
            file,
            version,
            before: peerbus_protocol::VERSION.to_owned(),
            at: super::super::journal::now(),
            jobs_until_ms: None,
            ready_within_ms: 60_000,
        }
    }

    /// The last one on a state directory.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(state_dir: &Path) -> Result<Option<Self>, BadUpgradeRecord> {
        let path = state_dir.join(FILE);
        let unreadable = |why: String| BadUpgradeRecord { path: path.clone(), why };
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let read: Self = decode::json(&text).map_err(|bad| unreadable(bad.to_string()))?;
        if read.kind == TYPE {
            Ok(Some(read))
        } else {
            Err(unreadable(format!("its type is {:?}", read.kind)))
        }
    }

    /// Writes it down, so that it survives the machine's crash, too.
    ///
    /// # Errors
    /// What the system says; then the record is the one before.
    pub fn write(&self, state_dir: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(state_dir)?;
        file.write_all(&decode::to_json(self))?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(state_dir.join(FILE))?;
        sync(state_dir)
    }

    /// The same, further on.
    #[must_use]
    pub fn now(self, phase: UpgradePhase, why: impl Into<String>) -> Self {
        Self { phase, why: why.into(), ..self }
    }

    /// What is to be executed.
    #[must_use]
    pub fn program(&self) -> &Path {
        self.staged.as_deref().unwrap_or(&self.path)
    }

    /// Whether it still goes on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, UpgradePhase::Asked | UpgradePhase::Trying)
    }

    /// Whether the new program has taken the place of the old one, whatever could be written down of that.
    #[must_use]
    pub fn has_its_place(&self) -> bool {
        let is_used_up = self.staged.as_ref().is_some_and(|staged| !staged.exists());
        is_used_up && FileId::of(&self.path).is_ok_and(|there| there == self.file)
    }

    /// How long the new one may take until it is done.
    #[must_use]
    pub fn ready_within(&self) -> Duration {
        Duration::from_millis(self.ready_within_ms)
    }
}
