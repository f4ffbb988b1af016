//! Lists the jobs that the journal knows.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::Journal;
use peerbus_protocol::JobId;

impl Journal {
    /// The jobs that have not ended.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(crate) fn open_ids(&self) -> io::Result<BTreeSet<JobId>> {
        ids(&self.open)
    }

    /// All known jobs.
    ///
    /// # Errors
    /// As [`Journal::open_ids`].
    pub(crate) fn all_ids(&self) -> io::Result<BTreeSet<JobId>> {
        // Read in this order: a record moves from the first directory to the second, so one of the two reads sees
        // it.
        let mut all = ids(&self.open)?;
        all.append(&mut ids(&self.ended)?);
        Ok(all)
    }
}

/// Ignores directories and files whose name is no job id.
fn ids(directory: &Path) -> io::Result<BTreeSet<JobId>> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        ids.extend(entry.file_name().to_str().and_then(|name| name.parse::<JobId>().ok()));
    }
    Ok(ids)
}
