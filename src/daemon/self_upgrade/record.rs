//! The record of one upgrade: `STATE_DIR/upgrade.json`.
//!
//! Each party reads its progress there, even after another one died: `d daemon upgrade` requests, the daemon tries,
//! the new daemon commits, its guard rolls back. The file is replaced atomically and forced to disk. It stays as
//! the record of the last upgrade.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::commit::sync;
use peerbus_process::FileId;
use peerbus_protocol::{Instance, decode};

/// File name below the state directory.
pub const FILE: &str = "upgrade.json";

const TYPE: &str = "peerbus.upgrade.v1";

/// The progress of an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradePhase {
    /// Requested; the old daemon serves.
    Asked,
    /// The old daemon shuts down, or the new one is on trial.
    Trying,
    /// The new daemon serves and is committed.
    Done,
    /// The old daemon serves, or will after its next start.
    Failed,
}

impl UpgradePhase {
    /// The name in files and answers.
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

/// One upgrade.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpgradeRecord {
    /// Always `peerbus.upgrade.v1`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The id of the upgrade.
    pub id: Instance,
    /// Its progress.
    pub phase: UpgradePhase,
    /// What it waits for, or why it failed.
    pub why: String,
    /// The program to replace.
    pub path: PathBuf,
    /// The path of the new program until it is committed. `None` if somebody else installed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<PathBuf>,
    /// Where the daemon keeps the previous program, if somebody else replaced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<PathBuf>,
    /// The identity of the new program file.
    pub file: FileId,
    /// The new version.
    pub version: String,
    /// The previous version.
    pub before: String,
    /// When the upgrade began, UTC.
    pub at: String,
    /// When remaining jobs are stopped for it, in milliseconds since 1970. `None` means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs_until_ms: Option<u64>,
    /// Timeout for the new version, in milliseconds.
    pub ready_within_ms: u64,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("reading {}: {why}", path.display())]
pub struct BadUpgradeRecord {
    path: PathBuf,
    why: String,
}

impl UpgradeRecord {
    /// A new upgrade.
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
            at: crate::journal::now(),
            jobs_until_ms: None,
            ready_within_ms: 60_000,
        }
    }

    /// Reads the last upgrade of a state directory.
    ///
    /// # Errors
    /// If the record exists and cannot be read.
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

    /// Writes the record so that it survives a crash of the machine.
    ///
    /// # Errors
    /// The system's error. The old record stays then.
    pub fn write(&self, state_dir: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(state_dir)?;
        file.write_all(&decode::to_json(self))?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(state_dir.join(FILE))?;
        sync(state_dir)
    }

    /// The same upgrade in another phase.
    #[must_use]
    pub fn now(self, phase: UpgradePhase, why: impl Into<String>) -> Self {
        Self { phase, why: why.into(), ..self }
    }

    /// The program to execute.
    #[must_use]
    pub fn program(&self) -> &Path {
        self.staged.as_deref().unwrap_or(&self.path)
    }

    /// Whether the upgrade is still in progress.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, UpgradePhase::Asked | UpgradePhase::Trying)
    }

    /// Whether the new program is installed at the path, whatever the record says.
    #[must_use]
    pub fn has_its_place(&self) -> bool {
        let is_used_up = self.staged.as_ref().is_some_and(|staged| !staged.exists());
        is_used_up && FileId::of(&self.path).is_ok_and(|there| there == self.file)
    }

    /// Timeout for the new version.
    #[must_use]
    pub fn ready_within(&self) -> Duration {
        Duration::from_millis(self.ready_within_ms)
    }
}
