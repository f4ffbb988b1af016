//! What the journal forgets, and since when its memory is complete.
//!
//! The queue may deliver a request again until it expires. So a queued request may run only if the journal would
//! know its id had it come before. This needs two things: the journal is older than the id, and no queued id of
//! that age or younger has been forgotten, for example because of too many jobs or a clock that was far ahead for a
//! while.
//!
//! Limits: the age of the journal is the age of its directory. A copied directory is as young as the copy. A whole
//! disk restored from a backup goes unnoticed. If the file system has no creation times, the journal is as young as
//! this start of the daemon.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Journal, KEEP_FOR, KEEP_MOST, KEEP_RESULTS_FOR, KEEP_RESULTS_MOST, read_record, sync_directory};
use peerbus_protocol::JobId;

/// File with the creation time of the youngest forgotten queued id, in milliseconds since 1970.
const FORGOTTEN: &str = "forgotten";

impl Journal {
    /// The time since which every queued id is known, in milliseconds since 1970.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn remembers_since_ms(&self) -> io::Result<i64> {
        let born_ms = match fs::metadata(&self.ended)?.created() {
            Ok(born) => milliseconds(born),
            Err(_) => self.opened_ms,
        };
        Ok(born_ms.max(self.forgotten_ms()?))
    }

    fn forgotten_ms(&self) -> io::Result<i64> {
        match fs::read_to_string(self.root().join(FORGOTTEN)) {
            Ok(text) => text.trim().parse().map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{FORGOTTEN} holds no time: {text:?}"))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(i64::MIN),
            Err(error) => Err(error),
        }
    }

    fn root(&self) -> &Path {
        self.ended.parent().unwrap_or(Path::new("/"))
    }

    /// Forgets records that are older than both `keep_for` and [`KEEP_FOR`], and those beyond the maximum number.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub(crate) fn prune(&self, keep_for: Duration) -> io::Result<()> {
        let forgotten_before = self.forgotten_ms()?;
        let mut forgotten = forgotten_before;
        let ended = doomed(&self.ended, keep_for.max(KEEP_FOR), KEEP_MOST)?;
        for path in &ended {
            forgotten = forgotten.max(made_in_the_queue_ms(path).unwrap_or(i64::MIN));
        }
        // Write this first: after a crash in between, removed ids must already count as forgotten.
        if forgotten > forgotten_before {
            let mut file = tempfile::NamedTempFile::new_in(self.root())?;
            writeln!(file, "{forgotten}")?;
            file.as_file().sync_all()?;
            file.persist(self.root().join(FORGOTTEN))?;
            sync_directory(self.root())?;
        }
        ended.iter().try_for_each(fs::remove_file)?;
        // Removes drafts of killed daemons. Everything else of that age has expired.
        prune(&self.queued, KEEP_FOR, usize::MAX)?;
        prune(&self.results, KEEP_RESULTS_FOR, KEEP_RESULTS_MOST)
    }
}

/// The creation time of an id that came, or may have come, from the queue.
fn made_in_the_queue_ms(record: &Path) -> Option<i64> {
    let id: JobId = record.file_name()?.to_str()?.parse().ok()?;
    // A tombstone may belong to a queued request.
    let is_queued =
        read_record(record).map_or(true, |record| record.begun.queued || record.begun.request.is_empty());
    is_queued.then(|| id.made_ms())
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Removes files that are too old or too many.
pub(super) fn prune(directory: &Path, keep_for: Duration, keep_most: usize) -> io::Result<()> {
    doomed(directory, keep_for, keep_most)?.iter().try_for_each(fs::remove_file)
}

/// The files that are too old or too many.
fn doomed(directory: &Path, keep_for: Duration, keep_most: usize) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(directory)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // A directory is not ours, and removing it as a file would fail.
            let file = entry.metadata().ok().filter(|found| !found.is_dir())?;
            Some((file.modified().ok()?, entry.path()))
        })
        .collect();
    files.sort_unstable();
    let too_many = files.len().saturating_sub(keep_most);
    let now = SystemTime::now();
    let is_doomed = |(index, (written, _)): &(usize, (SystemTime, PathBuf))| {
        *index < too_many || now.duration_since(*written).is_ok_and(|age| age > keep_for)
    };
    Ok(files.into_iter().enumerate().filter(is_doomed).map(|(_, (_, path))| path).collect())
}
