//! Stops what a dead daemon left behind.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::containment::JobScope;
use super::hierarchy;
use super::members::Members;
use super::pidfd::PidFd;
use super::process_key::ProcessKey;
use super::process_set::{Asked, KILLED_GONE, Stopped, stop};
use super::reaper;
use super::signal::Signal;
use peerbus_protocol::JobId;

/// Extra time for a reaper on a busy machine.
const REAPER_LATE: Duration = Duration::from_secs(5);

/// Pause between two attempts to take a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Stops all remaining processes of a job whose daemon has died. Returns their number; 0 if there was none or
/// the job never started.
///
/// # Errors
/// When a process of the job cannot be stopped, or the caller belongs to the job.
pub async fn clear(job_scope: &JobScope, grace: Duration) -> io::Result<u32> {
    match job_scope {
        JobScope::Cgroup { path } => clear_cgroup(path, grace).await,
        JobScope::Reaper { lock } => clear_reaper(lock, grace).await,
    }
}

async fn clear_cgroup(path: &Path, grace: Duration) -> io::Result<u32> {
    if !path.try_exists()? {
        return Ok(0);
    }
    if hierarchy::own_cgroup().is_some_and(|own| own.starts_with(path)) {
        let message = format!("{}: this process is itself part of that job", path.display());
        return Err(io::Error::other(message));
    }
    counted(stop(&Members::in_cgroup(path), None, Asked::Usual, grace).await?, path)
}

/// Waits for the reaper, which notices the daemon's death by itself. Acts only if the reaper was killed too,
/// or does not finish in time and is killed here.
async fn clear_reaper(path: &Path, grace: Duration) -> io::Result<u32> {
    let lock = match File::open(path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    // A stopped reaper acts only after SIGCONT.
    signal_reaper(path, Signal::CONT);
    if !is_free(&lock, reaper::GRACE + KILLED_GONE + REAPER_LATE).await? {
        tracing::error!(path = %path.display(), "the reaper of a job does not end it, and is killed");
        signal_reaper(path, Signal::KILL);
        if !is_free(&lock, KILLED_GONE).await? {
            let message = format!("{}: its reaper cannot end what is left of the job", path.display());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
    }
    // The reaper's last line, if it got that far.
    let said = io::read_to_string(&lock)?;
    let stopped_by_it = said.lines().last().unwrap_or_default().trim().parse::<u32>();
    let killed = match stopped_by_it {
        Ok(killed) => killed,
        Err(_) => counted(stop(&Members::marked(job_of(path)?), None, Asked::Usual, grace).await?, path)?,
    };
    // The reaper may have removed it.
    let _ = fs::remove_file(path);
    Ok(killed)
}

/// Waits until the lock is free, at most this long. Then we hold it.
async fn is_free(lock: &File, within: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + within;
    while let Err(error) = lock.try_lock() {
        if let TryLockError::Error(error) = error {
            return Err(error);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(LOCK_PAUSE).await;
    }
    Ok(true)
}

/// Signals the reaper that the lock file names, if it runs.
fn signal_reaper(path: &Path, signal: Signal) {
    let said = fs::read_to_string(path).unwrap_or_default();
    let reaper = said.lines().next().and_then(|line| serde_json::from_str::<ProcessKey>(line).ok());
    // Verify the identity after opening: the pid may have been reused before.
    let handle = reaper.and_then(|reaper| Some((PidFd::open(reaper.pid).ok()?, reaper)));
    if let Some((handle, reaper)) = handle
        && reaper.is_alive().unwrap_or(false)
    {
        let _ = handle.signal(signal);
    }
}

/// The name of the lock is that of its job.
pub(super) fn job_of(lock: &Path) -> io::Result<JobId> {
    let name = lock.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    name.parse().map_err(io::Error::other)
}

fn counted(stopped: Stopped, path: &Path) -> io::Result<u32> {
    match stopped.left {
        0 => Ok(stopped.killed),
        left => Err(io::Error::other(format!("{}: {left} processes cannot be ended", path.display()))),
    }
}
