//! Where the jobs of one daemon live, and which job_scope each gets.
//!
//! A cgroup of version 2 of the job's own holds whatever the job starts, and can be emptied at once.
//! Where none can be made (an old layout, a container, a user without delegation) a small reaper
//! process per job does the same, a little slower. Which it is, is tried out once, at the start.
//!
//! Two daemons on a machine do not meet: the directory of a daemon's cgroups is named after its
//! state directory.

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

/// How the processes of a job are kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainmentKind {
    /// A cgroup where one can be made, else a reaper.
    Best,
    /// A reaper, whatever the machine could do.
    Reaper,
}

/// Where one job lives. Deterministic, so that it can be journalled before the job starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobScope {
    /// In a cgroup of its own.
    Cgroup {
        /// The directory of it.
        path: PathBuf,
    },
    /// Below a reaper.
    Reaper {
        /// The file that the reaper holds locked while anything of the job lives.
        lock: PathBuf,
    },
}

impl JobScope {
    /// Where the n-th command of a job lives, counted from 1. A cgroup takes all of them; the reaper of one may still
    /// be about to go when the next one's comes, so each has a lock of its own, named after the job too.
    #[must_use]
    pub fn of_command(&self, n: u32) -> Self {
        match self {
            Self::Reaper { lock } if n > 1 => Self::Reaper { lock: lock.with_extension(format!("{n}")) },
            first => first.clone(),
        }
    }
}

/// The home of all jobs of one daemon. Clones are the same one.
#[derive(Debug, Clone)]
pub struct ContainmentManager {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cgroups: Option<PathBuf>,
    locks: PathBuf,
    reaper: PathBuf,
    /// Read while a job starts, so that a sweep does not take its still empty cgroup for left over.
    starting: RwLock<()>,
}

impl ContainmentManager {
    /// Finds out what this machine can do, and sweeps what earlier daemons left empty. `state_dir`
    /// must exist; `reaper` is run as `<reaper> reaper <fd>`, normally `/proc/self/exe`. To be
    /// called once, early: a daemon that finds itself in the cgroup of a job leaves it here.
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

    /// That of a shim, which has one job and is told where it lives. Nothing is swept here.
    #[must_use]
    pub fn of_one() -> Self {
        let reaper = PathBuf::from("/proc/self/exe");
        let locks = PathBuf::new();
        Self { inner: Arc::new(Inner { cgroups: None, locks, reaper, starting: RwLock::new(()) }) }
    }

    /// Where this job lives.
    #[must_use]
    pub fn job_scope(&self, job: JobId) -> JobScope {
        match &self.inner.cgroups {
            Some(base) => JobScope::Cgroup { path: base.join(format!("{JOB_PREFIX}{job}")) },
            None => JobScope::Reaper { lock: self.inner.locks.join(format!("{job}.lock")) },
        }
    }

    /// The directory of the jobs' cgroups; `None` where jobs live below reapers.
    #[must_use]
    pub fn cgroups(&self) -> Option<&Path> {
        self.inner.cgroups.as_deref()
    }

    /// Removes the cgroups whose last process has ended. Does nothing while a job starts.
    pub fn sweep(&self) {
        self.inner.sweep();
    }

    /// The directory of the shims' cgroup; `None` where there are no cgroups.
    pub(super) fn shims(&self) -> Option<PathBuf> {
        self.inner.cgroups.as_ref().map(|base| base.join(SHIMS))
    }

    pub(super) fn reaper(&self) -> &Path {
        &self.inner.reaper
    }

    /// Runs `start` while no sweep runs.
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
        // What cannot be looked at now is swept another time.
        let jobs = cgroup::children(base).unwrap_or_default().into_iter().map(|path| Cgroup::at(&path));
        jobs.filter(|job| job.is_empty().unwrap_or(false)).for_each(|job| job.remove());
    }
}

impl Drop for Inner {
    /// Leaves no directories behind, except those of jobs that still run.
    fn drop(&mut self) {
        self.sweep();
        if let Some(base) = &self.cgroups {
            let _ = fs::remove_dir(base);
        }
    }
}

/// The directory for the cgroups of this daemon's jobs, if processes can be made inside it.
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

/// Permissions alone do not tell: a process is made inside, one that has nothing to execute.
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
