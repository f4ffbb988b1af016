//! Files that are there as a whole or not at all.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;

/// Whether the disk itself has to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// It has, even if the machine loses its power now.
    Disk,
    /// It is enough that every process sees it.
    No,
}

/// Writes a file in place of the one that is there. Blocks on the disk. A directory that was taken away is
/// made again.
///
/// # Errors
/// What the system says; then the file is as it was.
pub(super) fn write(path: &Path, message: &impl Serialize, sync: Sync) -> io::Result<()> {
    match write_once(path, message, sync) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            }
            write_once(path, message, sync)
        }
        written => written,
    }
}

fn write_once(path: &Path, message: &impl Serialize, sync: Sync) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    let written = file.write_all(&super::wire::line(message)?);
    let synced = written.and_then(|()| if sync == Sync::Disk { file.sync_all() } else { Ok(()) });
    if let Err(error) = synced.and_then(|()| fs::rename(&aside, path)) {
        // On a full disk it would take room that others need.
        let _ = fs::remove_file(&aside);
        return Err(error);
    }
    match path.parent().filter(|_| sync == Sync::Disk) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
