//! Keeps the processes of each job together, and assigns a job scope to each job of a daemon.
//!
//! Each job gets its own cgroup (version 2) if possible: it holds all processes of the job, and all can be
//! killed at once. Where no cgroup can be created (an old layout, a container, a user without delegation),
//! one small reaper process per job does the same, a little slower. The daemon tests this once, at startup.
//!
//! Two daemons on a machine do not interfere: the directory of a daemon's cgroups is named after its state
//! directory.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, TryLockError};

use serde::{Deserialize, Serialize};

use super::cgroup::{self, Cgroup};
use super::hierarchy::{self, BASE_DIGITS, BASE_PREFIX, JOB_PREFIX, SHIMS};
use super::launch::{LAUNCH_WITHIN, LaunchError, Program, SpawnOptions, Step, launch};
use peerbus_protocol::JobId;

/// How to keep the processes of a job together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainmentKind {
    /// A cgroup if possible, otherwise a reaper.
    Best,
    /// Always a reaper.
    Reaper,
}

/// Where one job lives. Deterministic, so that the journal can record it before the job starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobScope {
    /// In its own cgroup.
    Cgroup {
        /// The directory of the cgroup.
        path: PathBuf,
    },
    /// Below a reaper.
    Reaper {
        /// The file that the reaper keeps locked while a process of the job lives.
        lock: PathBuf,
    },
}

impl JobScope {
    /// The scope of the n-th command of a job, counted from 1. All commands share a cgroup. With reapers, the
    /// previous one may still be exiting when the next one starts, so each has its own lock, also named after
    /// the job.
    #[must_use]
    pub fn of_command(&self, n: u32) -> Self {
        match self {
            Self::Reaper { lock } if n > 1 => Self::Reaper { lock: lock.with_extension(format!("{n}")) },
            first => first.clone(),
        }
    }
}

/// Manages the scopes of all jobs of one daemon. Clones share the state.
#[derive(Debug, Clone)]
pub struct ContainmentManager {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cgroups: Option<PathBuf>,
    locks: PathBuf,
    reaper: PathBuf,
    /// Read-locked while a job starts, so that a sweep does not remove its still empty cgroup.
    starting: RwLock<()>,
}

impl ContainmentManager {
    /// Tests what this machine supports, and removes empty cgroups of earlier daemons. `state_dir` must
    /// exist. `reaper` is run as `<reaper> reaper <fd>`, normally `/proc/self/exe`. Call this once, early: a
    /// daemon in the cgroup of a job leaves it here.
    ///
    /// # Errors
    /// When the state directory cannot be used.
    pub fn open(state_dir: &Path, reaper: PathBuf, containment: ContainmentKind) -> io::Result<Self> {
        let state_dir = state_dir.canonicalize()?;
        let locks = state_dir.join("reapers");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&locks)?;
        let cgroups = match containment {
            ContainmentKind::Best => usable_base(&state_dir),
            ContainmentKind::Reaper => None,
        };
        let containment_manager =
            Self { inner: Arc::new(Inner { cgroups, locks, reaper, starting: RwLock::new(()) }) };
        containment_manager.sweep();
        Ok(containment_manager)
    }

    /// The manager of a shim, which has one job and is told its scope. Removes nothing.
    #[must_use]
    pub fn of_one() -> Self {
        let reaper = PathBuf::from("/proc/self/exe");
        let locks = PathBuf::new();
        Self { inner: Arc::new(Inner { cgroups: None, locks, reaper, starting: RwLock::new(()) }) }
    }

    /// The scope of this job.
    #[must_use]
    pub fn job_scope(&self, job: JobId) -> JobScope {
        match &self.inner.cgroups {
            Some(base) => JobScope::Cgroup { path: base.join(format!("{JOB_PREFIX}{job}")) },
            None => JobScope::Reaper { lock: self.inner.locks.join(format!("{job}.lock")) },
        }
    }

    /// The directory of the jobs' cgroups; `None` if jobs use reapers.
    #[must_use]
    pub fn cgroups(&self) -> Option<&Path> {
        self.inner.cgroups.as_deref()
    }

    /// Removes empty cgroups. Does nothing while a job starts.
    pub fn sweep(&self) {
        self.inner.sweep();
    }

    /// The directory of the shims' cgroup; `None` without cgroups.
    pub(super) fn shims(&self) -> Option<PathBuf> {
        self.inner.cgroups.as_ref().map(|base| base.join(SHIMS))
    }

    pub(super) fn reaper(&self) -> &Path {
        &self.inner.reaper
    }

    /// Runs `start` while no sweep is running.
    pub fn while_starting<T>(&self, start: impl FnOnce() -> T) -> T {
        let _guard = self.inner.starting.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        start()
    }
}

impl Inner {
    fn sweep(&self) {
        let Some(base) = &self.cgroups else { return };
        let _guard = match self.starting.try_write() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        // A later sweep handles what cannot be listed now.
        let jobs = cgroup::children(base).unwrap_or_default().into_iter().map(|path| Cgroup::at(&path));
        jobs.filter(|job| job.is_empty().unwrap_or(false)).for_each(|job| job.remove());
    }
}

impl Drop for Inner {
    /// Removes the directories, except those of running jobs.
    fn drop(&mut self) {
        self.sweep();
        if let Some(base) = &self.cgroups {
            let _ = fs::remove_dir(base);
        }
    }
}

/// The directory for the cgroups of this daemon's jobs, if processes can be started inside it.
fn usable_base(state_dir: &Path) -> Option<PathBuf> {
    let Some(home) = hierarchy::home_cgroup() else {
        tracing::info!("no cgroup of version 2 is in reach: each job gets a reaper");
        return None;
    };
    let digest = blake3::hash(state_dir.as_os_str().as_bytes()).to_hex();
    let base = home.join(format!("{BASE_PREFIX}{}", &digest[..BASE_DIGITS]));
    match try_out(&Cgroup::at(&base.join("trial"))) {
        Ok(()) => Some(base),
        Err(error) => {
            tracing::info!(base = %base.display(), %error, "no cgroups can be made here: each job gets a reaper");
            let _ = fs::remove_dir(&base);
            None
        }
    }
}

/// Starts a process inside that has nothing to execute, because permissions alone prove nothing.
fn try_out(trial: &Cgroup) -> io::Result<()> {
    trial.create()?;
    let nothing = fs::File::open("/dev/null")?;
    let stdio = [std::os::fd::AsFd::as_fd(&nothing); 3];
    let around =
        SpawnOptions { stdio, cgroup: Some(trial.path()), keep: &[], terminal: false, within: LAUNCH_WITHIN };
    let outcome = match launch(&Program::nothing(), &around) {
        Err(LaunchError { step: Step::Program, .. }) | Ok(_) => Ok(()),
        Err(LaunchError { source, .. }) => Err(source),
    };
    trial.remove();
    outcome
}
