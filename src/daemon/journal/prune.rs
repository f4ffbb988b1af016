//! What the journal forgets, and since when it remembers.
//!
//! A request that has waited in the queue may be delivered again for as long as it has not expired. So it
//! is begun only where its id would be known if it had come before: the journal must be older than the id,
//! and no such id that is as young may have been forgotten, for whatever reason: too many jobs, a clock that
//! was far ahead for a while.
//!
//! Limits: the age of the journal is that of its directory. One that was copied back is as young as the
//! copy; a whole disk that was put back in time is not noticed. Where the file system does not know when a
//! directory was made, the journal is as young as this start of the daemon.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Journal, KEEP_FOR, KEEP_MOST, KEEP_RESULTS_FOR, KEEP_RESULTS_MOST, read_record, sync_directory};
use peerbus_protocol::JobId;

/// When the youngest id from the queue was made that was forgotten, in milliseconds since 1970.
const FORGOTTEN: &str = "forgotten";

impl Journal {
    /// Since when every id from the queue is known, in milliseconds since 1970.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(in super::super) fn remembers_since_ms(&self) -> io::Result<i64> {
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

    /// Forgets what is older than `keep_for`, and than [`KEEP_FOR`], and what is too much.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub(in super::super) fn prune(&self, keep_for: Duration) -> io::Result<()> {
        let forgotten_before = self.forgotten_ms()?;
        let mut forgotten = forgotten_before;
        let ended = doomed(&self.ended, keep_for.max(KEEP_FOR), KEEP_MOST)?;
        for path in &ended {
            forgotten = forgotten.max(made_in_the_queue_ms(path).unwrap_or(i64::MIN));
        }
        // First, or a crash in between would leave ids that are neither known nor known to be forgotten.
        if forgotten > forgotten_before {
            let mut file = tempfile::NamedTempFile::new_in(self.root())?;
            writeln!(file, "{forgotten}")?;
            file.as_file().sync_all()?;
            file.persist(self.root().join(FORGOTTEN))?;
            sync_directory(self.root())?;
        }
        ended.iter().try_for_each(fs::remove_file)?;
        // Drafts of daemons that were killed while they wrote; whatever else is as old has expired.
        prune(&self.queued, KEEP_FOR, usize::MAX)?;
        prune(&self.results, KEEP_RESULTS_FOR, KEEP_RESULTS_MOST)
    }
}

/// When an id was made that came from the queue, or may have.
fn made_in_the_queue_ms(record: &Path) -> Option<i64> {
    let id: JobId = record.file_name()?.to_str()?.parse().ok()?;
    // A tombstone may be one's of the queue.
    let is_queued =
        read_record(record).map_or(true, |record| record.begun.queued || record.begun.request.is_empty());
    is_queued.then(|| id.made_ms())
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Removes what is too old, and what is too much.
pub(super) fn prune(directory: &Path, keep_for: Duration, keep_most: usize) -> io::Result<()> {
    doomed(directory, keep_for, keep_most)?.iter().try_for_each(fs::remove_file)
}

/// What is too old, and what is too much.
fn doomed(directory: &Path, keep_for: Duration, keep_most: usize) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(directory)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // A directory is none of ours, and could not be removed as a file.
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
