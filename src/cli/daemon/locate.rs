//! Finds the daemon that runs on a state directory.
//!
//! The kernel's lock and the identity of its holder prove which process it is. The state file only
//! adds what that process has written about itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::exit::CliError;
use crate::settings::{Settings, variable};
use peerbus_daemon::job_is_open;
use peerbus_daemon::state::{self, DaemonState, RunState, SupervisedBy};
use peerbus_process::{DirectoryWatch, ProcessHandle, ProcessKey, StateLock};
use peerbus_protocol::exec::JOB_VARIABLE;

/// The result for a state directory.
#[derive(Debug)]
pub(super) enum LocatedDaemon {
    /// A daemon runs.
    Runs(Running),
    /// No daemon runs. Contains the corrected last state, if any.
    Not(Option<DaemonState>),
}

/// A running daemon.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: ProcessHandle,
    pub(super) identity: ProcessKey,
    /// Its own state; `None` in its first moments.
    pub(super) state: Option<DaemonState>,
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.identity.pid
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.state == RunState::Ready)
    }

    /// Whether a user runs it in a terminal and sees its log.
    pub(super) fn is_in_foreground(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.run_by == Some(SupervisedBy::Foreground))
    }

    /// `peer=… pid=… nats=… since=…`, as far as known.
    pub(super) fn facts(&self) -> String {
        match &self.state {
            Some(state) => {
                let DaemonState { peer_id, nats, since, .. } = state;
                format!("peer={peer_id} pid={} nats={nats} since={since}", self.pid())
            }
            None => format!("pid={}", self.pid()),
        }
    }

    /// Its current step, or what it waits for.
    pub(super) fn doing(&self) -> String {
        match &self.state {
            Some(state) => crate::status::doing(state),
            None => "starting".to_owned(),
        }
    }
}

/// The current state directory, as an absolute path.
pub(super) fn state_dir(settings: &Settings<'_>) -> PathBuf {
    let directory = settings.state_dir();
    std::path::absolute(&directory).unwrap_or(directory)
}

/// Finds the daemon of a state directory. Creates nothing.
pub(super) fn look(directory: &Path) -> Result<LocatedDaemon, CliError> {
    if directory.exists() && !directory.is_dir() {
        return Err(CliError::other(format!("the state directory {} is no directory", directory.display())));
    }
    let looking = |error: &dyn std::fmt::Display| {
        let owner = "whose daemon is it? Its owner and root may look";
        CliError::other(format!("looking for a daemon: {error}; {owner}"))
    };
    let Some(by) = StateLock::holder(directory).map_err(|error| looking(&error))? else {
        return Ok(LocatedDaemon::Not(last(directory)?));
    };
    let Some(identity) = by.identity().map_err(|error| looking(&error))? else {
        return Err(CliError::other(format!("{} is held by {by}, which is no daemon", directory.display())));
    };
    match ProcessHandle::open(&identity).map_err(|error| looking(&error))? {
        Some(process) => {
            let own = last(directory)?.filter(|state| state.process == identity);
            Ok(LocatedDaemon::Runs(Running { process, identity, state: own }))
        }
        None => Ok(LocatedDaemon::Not(last(directory)?)),
    }
}

/// The content of the state file; `None` if it is missing or corrupt.
fn last(directory: &Path) -> Result<Option<DaemonState>, CliError> {
    match state::read(directory) {
        Ok(state) => Ok(Some(state.truth())),
        Err(state::ReadError::Missing(_) | state::ReadError::Broken { .. }) => Ok(None),
        Err(error) => Err(CliError::other(error.to_string())),
    }
}

/// The result of waiting for a daemon.
#[derive(Debug)]
pub(super) enum Waited {
    Ready(Running),
    /// It exited; its last state.
    Ended(Option<DaemonState>),
    StillNot(Running),
}

/// Waits until the daemon of a state directory is ready or gone.
pub(super) async fn until_ready(directory: &Path, within: Duration) -> Result<Waited, CliError> {
    let failed = |error| CliError::other(format!("watching {}: {error}", directory.display()));
    let watch = DirectoryWatch::of(directory).map_err(failed)?;
    let deadline = Instant::now() + within;
    loop {
        // Looked up after the watch exists, so that no change is missed.
        let running = match look(directory)? {
            LocatedDaemon::Runs(running) if running.is_ready() => return Ok(Waited::Ready(running)),
            LocatedDaemon::Runs(running) => running,
            LocatedDaemon::Not(last) => return Ok(Waited::Ended(last)),
        };
        let changed = async {
            tokio::select! {
                changed = watch.changed() => changed,
                ended = running.process.ended() => ended,
            }
        };
        match timeout_at(deadline, changed).await {
            Ok(changed) => changed.map_err(failed)?,
            Err(_) => return Ok(Waited::StillNot(running)),
        }
    }
}

/// Refuses to stop a daemon from inside one of its own jobs: it would stop that job, and the rest
/// would not happen.
pub(super) fn refuse_inside_own_job(directory: &Path, verb: &str) -> Result<(), CliError> {
    let job = variable(JOB_VARIABLE).and_then(|id| id.parse().ok());
    match job {
        Some(job) if job_is_open(directory, job) => Err(CliError::other(format!(
            "this is the job {job} of the daemon of {}: to {verb} that daemon would stop this command half-way; do it \
             from a shell on that machine",
            directory.display()
        ))),
        _ => Ok(()),
    }
}
