//! The state file: what the daemon of a state directory does, or did last, for whoever looks.
//!
//! It is never removed, so that "stopped, because" can be told from "never started". It is replaced
//! whole, on a full disk written over, readable by its owner only, and holds no secret.

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

/// Its name below the state directory.
pub const FILE: &str = "state.json";

/// What a daemon does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It is on its way to serving.
    Starting,
    /// It serves.
    Ready,
    /// It is on its way out.
    Stopping,
    /// It ended as asked.
    Stopped,
    /// It ended for the reason in `state_reason`.
    Failed,
}

/// How a daemon is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisedBy {
    /// Systemd started it.
    Systemd,
    /// `d daemon start` did; its log is in the state directory.
    Detached,
    /// Somebody else did, and has its standard error.
    Foreground,
}

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonState {
    /// Always [`TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// What the daemon does, or did last.
    pub state: RunState,
    /// Why, for people.
    pub state_reason: String,
    /// Since when, UTC.
    pub since: String,
    /// Which process it is or was, with start time and boot, so that nobody is taken for it.
    pub process: ProcessKey,
    /// Which start of the daemon.
    pub instance: Instance,
    /// Version of the daemon.
    pub version: String,
    /// Its peer id.
    pub peer_id: PeerId,
    /// Its role.
    pub role: Role,
    /// The bus, without credentials.
    pub nats: String,
    /// How it is run; older daemons did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_by: Option<SupervisedBy>,
    /// Its policy; older daemons had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyState>,
    /// Its program and what it knows of another; older daemons did not hand over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<ProgramState>,
    /// Since when a daemon that serves has lost the bus, and why it does not get it back; none while it has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_the_bus: Option<OffTheBus>,
}

/// A daemon without its bus: it goes on trying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffTheBus {
    /// Since when, UTC.
    pub since: String,
    /// Why the last attempt to connect failed, for people.
    pub why: String,
}

/// Makes a state directory, where there is none. Root's daemon uses none that others can change: whoever writes into
/// it decides what is known to have run, and what root executes.
///
/// # Errors
/// Names the directory that cannot be made, or says who else can change it.
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
    /// Whether the directory is another's, or nobody's, by now.
    is_lost: bool,
}

impl StateFile {
    pub(super) fn create(directory: &Path, first: DaemonState) -> io::Result<Self> {
        set_aside_if_broken(directory)?;
        let file = Self { path: directory.join(FILE), current: first, is_lost: false };
        match file.write() {
            // Those who look see what was written last; whoever wants to make room needs this daemon.
            Err(error) if is_full(&error) => {
                tracing::error!(path = %file.path.display(), %error, "writing the state file; starting all the same");
            }
            written => written?,
        }
        Ok(file)
    }

    /// Notes a change. A file that cannot be written is said and changes nothing for the daemon.
    pub(super) fn set(&mut self, state: RunState, reason: impl Into<String>) {
        self.current.state = state;
        self.current.state_reason = reason.into();
        self.current.since = now();
        if state != RunState::Ready {
            self.current.off_the_bus = None;
        }
        self.note();
    }

    /// The directory was taken away. Nothing more is written: what is there now may be another daemon's.
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

    /// Notes what became of a reading of the policy.
    pub(super) fn set_policy(&mut self, policy: PolicyState) {
        self.current.policy = Some(policy);
        self.note();
    }

    /// Notes what is known of another version.
    pub(super) fn set_next(&mut self, next: Option<UpgradeOutcome>) {
        if let Some(program) = &mut self.current.program {
            program.next = next;
        }
        self.note();
    }

    /// Notes that the bus is away, and why; or that it is back. Writes only what changes.
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
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text)?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// On a full disk: the blocks that the file has already are enough for what changes in it.
    fn write_over(&self, text: &[u8]) -> io::Result<()> {
        let file = fs::OpenOptions::new().write(true).open(&self.path)?;
        let length = file.metadata()?.len();
        // In one write, so that whoever reads it meanwhile sees the one text or the other; what may be left of a
        // longer one is blank until it is cut off.
        let mut padded = text.to_vec();
        padded.resize(padded.len().max(usize::try_from(length).unwrap_or_default()), b' ');
        file.write_all_at(&padded, 0)?;
        file.set_len(text.len() as u64)
    }
}

/// A file that cannot be read is kept under another name, and said.
fn set_aside_if_broken(directory: &Path) -> io::Result<()> {
    if let Err(ReadError::Broken { path, why }) = read(directory) {
        let aside = path.with_extension(format!("broken-{}.json", now().replace(':', "")));
        fs::rename(&path, &aside)?;
        tracing::warn!(path = %path.display(), aside = %aside.display(), why, "the state file was corrupt; moved aside");
    }
    Ok(())
}

/// Why a state file says nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none: no daemon was ever started here.
    #[error("no daemon was ever started on {}", .0.display())]
    Missing(PathBuf),
    /// It is there and cannot be read.
    #[error("reading {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is there and is not what a daemon writes.
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
/// When there is none, or it cannot be read.
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
    /// What the file says, corrected by whether its process lives: a daemon that was killed could
    /// not write that down.
    #[must_use]
    pub fn truth(mut self) -> Self {
        let claims_to_live = matches!(self.state, RunState::Starting | RunState::Ready | RunState::Stopping);
        // Whoever cannot look has nothing better than the claim.
        if claims_to_live && !self.process.is_alive().unwrap_or(true) {
            self.state = RunState::Failed;
            self.state_reason = format!("process {} ended without saying why", self.process.pid);
            self.off_the_bus = None;
        }
        self
    }
}
