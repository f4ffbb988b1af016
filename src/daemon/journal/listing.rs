//! Which jobs the journal knows.

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
    /// When the directory cannot be read.
    pub(crate) fn open_ids(&self) -> io::Result<BTreeSet<JobId>> {
        ids(&self.open)
    }

    /// All jobs that are known.
    ///
    /// # Errors
    /// As [`Journal::open_ids`].
    pub(crate) fn all_ids(&self) -> io::Result<BTreeSet<JobId>> {
        // In this order: a record goes from the first to the second, and is in one of them whenever one looks.
        let mut all = ids(&self.open)?;
        all.append(&mut ids(&self.ended)?);
        Ok(all)
    }
}

/// What is no record, by its name or because it is a directory, is nobody's business here.
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
