//! The state file: what the daemon of a state directory does, or did last.
//!
//! The file is never removed, so readers can tell "stopped" from "never started". It is replaced atomically, or
//! overwritten in place on a full disk. Only its owner can read it, and it holds no secret.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::journal::now;
use super::policy::PolicyState;
use super::self_upgrade::{ProgramState, UpgradeOutcome};
use peerbus_process::host::is_full;
use peerbus_process::{ProcessKey, ownership};
use peerbus_protocol::heartbeat::Role;
use peerbus_protocol::{Instance, PeerId, decode};

/// The `type` of a state file.
pub const TYPE: &str = "peerbus.daemon_state.v1";

/// File name below the state directory.
pub const FILE: &str = "state.json";

/// The run state of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It is starting.
    Starting,
    /// It serves.
    Ready,
    /// It is shutting down.
    Stopping,
    /// It ended as requested.
    Stopped,
    /// It failed; `state_reason` says why.
    Failed,
}

/// The supervisor of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisedBy {
    /// Systemd started it.
    Systemd,
    /// `d daemon start`; the log is in the state directory.
    Detached,
    /// Somebody else, who has its standard error.
    Foreground,
}

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonState {
    /// Always [`TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The run state.
    pub state: RunState,
    /// The reason, for people.
    pub state_reason: String,
    /// Start of the run state, UTC.
    pub since: String,
    /// The process, with start time and boot, so that no other process is taken for it.
    pub process: ProcessKey,
    /// The instance of the daemon.
    pub instance: Instance,
    /// Version of the daemon.
    pub version: String,
    /// Its peer id.
    pub peer_id: PeerId,
    /// Its role.
    pub role: Role,
    /// The bus address, without credentials.
    pub nats: String,
    /// The supervisor. Older daemons did not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_by: Option<SupervisedBy>,
    /// Its policy; older daemons had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyState>,
    /// The program and any other known version. Older daemons could not hand over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<ProgramState>,
    /// Since when and why a serving daemon is disconnected from the bus. `None` while connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_the_bus: Option<OffTheBus>,
}

/// A disconnected daemon. It keeps trying to connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffTheBus {
    /// Since when, UTC.
    pub since: String,
    /// Why the last attempt to connect failed, for people.
    pub why: String,
}

/// Creates a state directory if there is none. Root's daemon rejects a directory that others can change: its
/// content decides which jobs have run and which programs root executes.
///
/// # Errors
/// Names the directory that cannot be created, or who else can change it.
pub(super) fn make_directory(directory: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("making the state directory {}", directory.display()))?;
    ownership::check_for_root(directory)
        .map_err(|why| anyhow::anyhow!("the state directory {} is not used: {why}", directory.display()))
}

/// Writes the state file of one daemon.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    current: DaemonState,
    /// Whether the directory was removed or belongs to another daemon now.
    is_lost: bool,
}

impl StateFile {
    pub(super) fn create(directory: &Path, first: DaemonState) -> io::Result<Self> {
        set_aside_if_broken(directory)?;
        let file = Self { path: directory.join(FILE), current: first, is_lost: false };
        match file.write() {
            // Start anyway: clients need this daemon to free disk space. Readers see the old state.
            Err(error) if is_full(&error) => {
                tracing::error!(path = %file.path.display(), %error, "writing the state file; starting all the same");
            }
            written => written?,
        }
        Ok(file)
    }

    /// Writes a new run state. A write error is only logged.
    pub(super) fn set(&mut self, state: RunState, reason: impl Into<String>) {
        self.current.state = state;
        self.current.state_reason = reason.into();
        self.current.since = now();
        if state != RunState::Ready {
            self.current.off_the_bus = None;
        }
        self.note();
    }

    /// Stops writing: the directory was removed, and what is there now may belong to another daemon.
    pub(super) fn lose(&mut self) {
        self.is_lost = true;
    }

    fn note(&self) {
        if self.is_lost {
            return;
        }
        if let Err(error) = self.write() {
            tracing::error!(path = %self.path.display(), %error, "writing the state file");
        }
    }

    /// Writes the result of a policy read.
    pub(super) fn set_policy(&mut self, policy: PolicyState) {
        self.current.policy = Some(policy);
        self.note();
    }

    /// Writes what is known of another version.
    pub(super) fn set_next(&mut self, next: Option<UpgradeOutcome>) {
        if let Some(program) = &mut self.current.program {
            program.next = next;
        }
        self.note();
    }

    /// Writes why the bus is disconnected, or that it is back. Writes only changes.
    pub(super) fn set_off_the_bus(&mut self, why: Option<String>) {
        if self.current.off_the_bus.as_ref().map(|off| &off.why) == why.as_ref() {
            return;
        }
        let since = self.current.off_the_bus.take().map_or_else(now, |off| off.since);
        self.current.off_the_bus = why.map(|why| OffTheBus { since, why });
        self.note();
    }

    pub(super) fn set_nats(&mut self, nats: String) {
        self.current.nats = nats;
    }

    fn write(&self) -> io::Result<()> {
        let mut text = decode::to_json(&self.current);
        text.push(b'\n');
        match self.replace(&text) {
            Err(error) if is_full(&error) => self.write_over(&text).map_err(|_| error),
            written => written,
        }
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        // Created with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text)?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// On a full disk: the blocks of the existing file are enough.
    fn write_over(&self, text: &[u8]) -> io::Result<()> {
        let file = fs::OpenOptions::new().write(true).open(&self.path)?;
        let length = file.metadata()?.len();
        // One write call, so that a reader sees the old or the new text. Blanks cover a longer old text until the
        // file is truncated.
        let mut padded = text.to_vec();
        padded.resize(padded.len().max(usize::try_from(length).unwrap_or_default()), b' ');
        file.write_all_at(&padded, 0)?;
        file.set_len(text.len() as u64)
    }
}

/// Renames an invalid file and logs that.
fn set_aside_if_broken(directory: &Path) -> io::Result<()> {
    if let Err(ReadError::Broken { path, why }) = read(directory) {
        let aside = path.with_extension(format!("broken-{}.json", now().replace(':', "")));
        fs::rename(&path, &aside)?;
        tracing::warn!(path = %path.display(), aside = %aside.display(), why, "the state file was corrupt; moved aside");
    }
    Ok(())
}

/// Why the state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No file: no daemon was ever started here.
    #[error("no daemon was ever started on {}", .0.display())]
    Missing(PathBuf),
    /// The file cannot be read.
    #[error("reading {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The content is invalid.
    #[error("{} is corrupt: {why}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads the state file of a state directory.
///
/// # Errors
/// If there is none or it is invalid.
pub fn read(directory: &Path) -> Result<DaemonState, ReadError> {
    let path = directory.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ReadError::Missing(directory.to_owned()));
        }
        Err(error) => return Err(ReadError::Unreadable { path, error }),
    };
    let state: DaemonState =
        decode::json(&text).map_err(|bad| ReadError::Broken { path: path.clone(), why: bad.to_string() })?;
    if state.kind == TYPE {
        Ok(state)
    } else {
        Err(ReadError::Broken { path, why: format!("its type is {:?}", state.kind) })
    }
}

impl DaemonState {
    /// Corrects the state if the process is dead: a killed daemon could not write that.
    #[must_use]
    pub fn truth(mut self) -> Self {
        let claims_to_live = matches!(self.state, RunState::Starting | RunState::Ready | RunState::Stopping);
        // If the check fails, trust the file.
        if claims_to_live && !self.process.is_alive().unwrap_or(true) {
            self.state = RunState::Failed;
            self.state_reason = format!("process {} ended without saying why", self.process.pid);
            self.off_the_bus = None;
        }
        self
    }
}
