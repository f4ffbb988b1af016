//! After a daemon's death: stopping what it left behind.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::hierarchy;
use super::members::Members;
use super::nursery::Lodging;
use super::reaper;
use super::tree::{KILLED_GONE, Stopped, stop};
use crate::protocol::JobId;

/// How much longer than it needs a reaper may take on a busy machine.
const REAPER_LATE: Duration = Duration::from_secs(5);

/// How often a lock is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Stops everything that is left of a job whose daemon has died, and returns how many processes
/// that were. A job that has left nothing, or never began, is 0.
///
/// # Errors
/// When something of the job cannot be ended, or the caller is itself part of it.
pub async fn clear(lodging: &Lodging, grace: Duration) -> io::Result<u32> {
    match lodging {
        Lodging::Cgroup { path } => clear_cgroup(path, grace).await,
        Lodging::Reaper { lock } => clear_reaper(lock, grace).await,
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
    counted(stop(&Members::in_cgroup(path), None, grace).await?, path)
}

/// The reaper has noticed by itself; it is waited for. Only if it was killed as well is there
/// anything to do.
async fn clear_reaper(path: &Path, grace: Duration) -> io::Result<u32> {
    let lock = match File::open(path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    wait_for(&lock, path).await?;
    let stopped_by_it = io::read_to_string(&lock)?.trim().parse::<u32>();
    let killed = match stopped_by_it {
        Ok(killed) => killed,
        Err(_) => counted(stop(&Members::marked(job_of(path)?), None, grace).await?, path)?,
    };
    // The reaper may have removed it itself.
    let _ = fs::remove_file(path);
    Ok(killed)
}

async fn wait_for(lock: &File, path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + reaper::GRACE + KILLED_GONE + REAPER_LATE;
    while let Err(error) = lock.try_lock() {
        if let TryLockError::Error(error) = error {
            return Err(error);
        }
        if Instant::now() >= deadline {
            let message = format!("{}: its reaper cannot end what is left of the job", path.display());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        sleep(LOCK_PAUSE).await;
    }
    Ok(())
}

/// The lock of a job is named after it.
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
