//! A directory of the test's own: removed if the test succeeds, kept and printed if it fails. In
//! both cases, processes started by a daemon in it are killed.
//!
//! A killed test cannot clean up. So a file beside each scratch directory stays locked for as long
//! as its test runs, and the next test that creates a directory kills what is left behind unlocked
//! files. The files in the directory stay, like those of any failed test.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::leftovers;

/// The prefix of their names.
const PREFIX: &str = "pbs-";

/// The extension of the lock file.
const HELD: &str = "held";

/// The result of reading a path; `None` if the path is missing, since a running daemon may remove
/// it any time.
#[track_caller]
pub fn unless_gone<T>(found: io::Result<T>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("looking at what a test has made: {error}"),
    }
}

/// A private directory (0700) with a short path, so that Unix sockets below it have room.
pub struct Scratch {
    directory: Option<tempfile::TempDir>,
    /// The lock, held while this lives.
    held: File,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// A new empty directory.
    pub fn new() -> Scratch {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| end_forgotten(&std::env::temp_dir()));
        Scratch::below(&std::env::temp_dir())
    }

    /// A new empty directory in another one.
    pub fn below(parent: &Path) -> Scratch {
        let directory =
            tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent).expect("making a scratch directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700))
            .expect("making the scratch directory private");
        let held = held(&directory.path().with_extension(HELD)).expect("locking the scratch directory");
        Scratch { directory: Some(directory), held }
    }

    /// Leaves everything in place, like a killed test.
    pub fn forsake(mut self) -> PathBuf {
        self.held.unlock().expect("letting go of the scratch directory");
        self.directory.take().expect("the directory is there until drop").keep()
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.directory.as_ref().expect("the directory is there until drop").path()
    }

    /// A directory in it, created (0700) if missing.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(&path).expect("making a directory in the scratch directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("making it private");
        path
    }

    /// Creates a file in it with this text, and its parent directories.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("making a directory in the scratch directory");
        }
        fs::write(&path, text).expect("writing a file in the scratch directory");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else { return };
        leftovers::end_below(directory.path());
        let _ = fs::remove_file(directory.path().with_extension(HELD));
        if std::thread::panicking() {
            eprintln!("the test's files are kept in {}", directory.keep().display());
        }
    }
}

/// Creates and locks the lock file. Retries if another test removed the file as abandoned before it
/// was locked.
fn held(path: &Path) -> io::Result<File> {
    loop {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        file.lock()?;
        match fs::metadata(path) {
            Ok(there) if there.ino() == file.metadata()?.ino() => return Ok(file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

/// Kills the processes left by killed tests.
pub fn end_forgotten(parent: &Path) {
    for entry in fs::read_dir(parent).expect("reading the directory for temporary files").flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && path.extension().is_some_and(|extension| extension == HELD)
            && let Err(error) = end_if_forgotten(&path)
        {
            eprintln!("ending what is left beside {}: {error}", path.display());
        }
    }
}

fn end_if_forgotten(held: &Path) -> io::Result<()> {
    let file = match File::open(held) {
        // Its test has just removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let is_ours = file.metadata()?.uid() == nix::unistd::geteuid().as_raw();
    if !is_ours || file.try_lock().is_err() {
        return Ok(());
    }
    leftovers::end_below(&held.with_extension(""));
    match fs::remove_file(held) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
