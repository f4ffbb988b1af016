//! How long the output of ended durable jobs is kept, and how much of it.
//!
//! What goes, goes as a whole job, the one first that ended first; how it ended the journal still knows, and
//! whoever asks for the output is told that it is no longer kept. Guarantee: nothing of a job that runs is touched, nor of
//! one whose end is not in the journal.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::journal::Journal;
use super::super::limits::Limits;
use peerbus_protocol::JobId;
use peerbus_shim::JobDir;

/// What the name of a job's directory ends with once it is to go: what a crash leaves of it is no job's any more.
const GOING: &str = "going";

/// A job that has ended, and what its files take.
struct EndedJob {
    job: JobId,
    place: JobDir,
    ended: SystemTime,
    bytes: u64,
}

/// Removes what is older, and what is more, than the limits say. Blocking.
///
/// # Errors
/// When it cannot be seen what there is. What cannot be removed is said in the log, and tried again the next time.
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

/// When a job ended; none where it may still run, or nobody has written that down yet.
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
        // Forgotten by the journal, so it ended long ago, unless its shim says otherwise.
        None if is_kept(place) => Ok(None),
        None => written().map(Some),
    }
}

/// Whether its shim lives.
fn is_kept(place: &JobDir) -> bool {
    let lock = File::open(place.directory().join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Bytes of all files.
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

/// Removes what was left of it the last time.
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
