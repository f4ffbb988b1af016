//! How long, and how much, output of ended durable jobs is kept.
//!
//! Retention removes whole jobs, the oldest ending first. The journal still knows how they ended, and clients that
//! ask for the output learn that it is no longer kept. Guarantee: running jobs, and jobs whose ending is not in the
//! journal, are never touched.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::journal::Journal;
use crate::limits::Limits;
use peerbus_protocol::JobId;
use peerbus_shim::JobDir;

/// Suffix of a job directory that is being removed. After a crash, the suffix marks it as no job's.
const GOING: &str = "going";

/// An ended job and the size of its files.
struct EndedJob {
    job: JobId,
    place: JobDir,
    ended: SystemTime,
    bytes: u64,
}

/// Removes output beyond the age and size limits. Blocking.
///
/// # Errors
/// If the job directories cannot be listed. A failed removal is logged and tried again next time.
pub(crate) fn retain(state_dir: &Path, journal: &Journal, limits: &Limits) -> io::Result<()> {
    finish(&state_dir.join("jobs"))?;
    let mut all = Vec::new();
    for (job, place) in JobDir::all(state_dir)? {
        if let Some(ended) = ended(journal, job, &place)? {
            let bytes = bytes(place.directory()).unwrap_or_default();
            all.push(EndedJob { job, place, ended, bytes });
        }
    }
    all.sort_by_key(|kept| (kept.ended, kept.job));
    let mut total: u64 = all.iter().map(|kept| kept.bytes).sum();
    for kept in &all {
        let age = SystemTime::now().duration_since(kept.ended).unwrap_or_default();
        let why = match (age > limits.keep_for, total > limits.logs_total) {
            (true, _) => "too old",
            (false, true) => "too much",
            (false, false) => continue,
        };
        total -= kept.bytes;
        drop_one(kept, age, why);
    }
    Ok(())
}

/// When a job ended. `None` if it may still run or its ending is not recorded yet.
fn ended(journal: &Journal, job: JobId, place: &JobDir) -> io::Result<Option<SystemTime>> {
    let record = match journal.find(job) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
        found => found?,
    };
    let written = || fs::metadata(place.directory()).and_then(|directory| directory.modified());
    match record {
        Some(record) if record.result.is_none() => Ok(None),
        Some(record) => {
            let ended_at = record.ended_at.and_then(|at| at.parse::<jiff::Timestamp>().ok());
            ended_at.map_or_else(|| written().map(Some), |at| Ok(Some(SystemTime::from(at))))
        }
        // The journal has pruned it, so it ended long ago, unless its shim lives.
        None if is_kept(place) => Ok(None),
        None => written().map(Some),
    }
}

/// Whether its shim lives.
fn is_kept(place: &JobDir) -> bool {
    let lock = File::open(place.directory().join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Total size of all files, in bytes.
fn bytes(directory: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        total += if facts.is_dir() { bytes(&entry.path())? } else { facts.len() };
    }
    Ok(total)
}

fn drop_one(kept: &EndedJob, age: Duration, why: &str) {
    let EndedJob { job, place, bytes, .. } = kept;
    let directory = place.directory();
    let going = directory.with_extension(GOING);
    match fs::rename(directory, &going).and_then(|()| fs::remove_dir_all(&going)) {
        Ok(()) => tracing::info!(%job, bytes, ?age, why, "dropped the output of an ended job"),
        Err(error) => tracing::warn!(%job, %error, "dropping the output of an ended job"),
    }
}

/// Completes removals that a crash interrupted.
fn finish(jobs: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(jobs) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == GOING)
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::warn!(path = %path.display(), %error, "dropping the output of an ended job");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
