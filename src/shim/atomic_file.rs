//! Atomic files: complete or absent, even after a power failure.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::task::JoinHandle;

use peerbus_process::joined;

/// Replaces a file. Blocks on the disk. Recreates the directory if it was removed.
///
/// # Errors
/// The system's error; the file is unchanged.
pub(super) fn write(path: &Path, message: &impl Serialize) -> io::Result<()> {
    match write_once(path, message) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            }
            write_once(path, message)
        }
        written => written,
    }
}

fn write_once(path: &Path, message: &impl Serialize) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    let written = file.write_all(&super::wire::line(message)?).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&aside, path)) {
        // On a full disk it would waste space.
        let _ = fs::remove_file(&aside);
        return Err(error);
    }
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Makes the names of a directory and of its parent survive a power failure. Blocks on the disk.
///
/// # Errors
/// The system's error: the directory may be lost in a power failure, with everything in it.
pub(super) fn keep_name_of(directory: &Path) -> io::Result<()> {
    directory.ancestors().skip(1).take(2).try_for_each(|above| File::open(above)?.sync_all())
}

/// A file of which only the newest version matters. A background task writes it, so a slow disk does not
/// block the owner.
#[derive(Debug)]
pub(super) struct VersionedFile<T> {
    path: PathBuf,
    writing: Option<JoinHandle<io::Result<()>>>,
    next: Option<T>,
}

impl<T: Serialize + Send + 'static> VersionedFile<T> {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, writing: None, next: None }
    }

    /// Sets the newest version.
    pub(super) fn write(&mut self, message: T) {
        self.next = Some(message);
        self.begin();
    }

    fn begin(&mut self) {
        if self.writing.is_none()
            && let Some(message) = self.next.take()
        {
            let path = self.path.clone();
            self.writing = Some(tokio::task::spawn_blocking(move || write(&path, &message)));
        }
    }

    /// Waits until a write succeeds or fails; on failure the previous version stays. Cancel safe.
    pub(super) async fn written(&mut self) {
        let written = joined(&mut self.writing).await;
        if let Err(error) = written.map_err(io::Error::other).and_then(|written| written) {
            tracing::warn!(%error, path = %self.path.display(), "writing a file");
        }
        self.begin();
    }

    /// Waits until nothing is left to write.
    pub(super) async fn finish(&mut self) {
        while self.writing.is_some() {
            self.written().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_is_what_stays() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("there").join("file.json");
        let mut newest = VersionedFile::at(path.clone());
        for number in 0..20 {
            newest.write(number);
        }
        newest.finish().await;
        assert_eq!(fs::read_to_string(&path).expect("written"), "19\n");
        assert!(newest.next.is_none() && !path.with_extension("new").exists());
        // A version that cannot be written changes nothing.
        fs::create_dir(path.with_extension("new")).expect("in the way");
        newest.write(20);
        newest.finish().await;
        assert_eq!(fs::read_to_string(&path).expect("as before"), "19\n");
    }
}
