//! A directory of the test's own: removed when the test succeeds, kept and named when it fails. What a daemon in it
//! has started ends with it in both cases.
//!
//! A test that is killed can end nothing. So beside each scratch directory is a file that its test holds locked for as
//! long as it lives, and the next test that makes one ends what is left where nobody holds it any more. The files in
//! the directory stay, as those of any test that has failed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::leftovers;

/// What the names of all of them begin with.
const PREFIX: &str = "pbs-";

/// What the name of the file beside one ends with.
const HELD: &str = "held";

/// What was found at a path, unless nothing is there (any more): a daemon that lives removes what has been listed.
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
    /// Locked while this lives.
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

    /// Leaves everything as it is, as a test does that is killed.
    pub fn forsake(mut self) -> PathBuf {
        self.held.unlock().expect("letting go of the scratch directory");
        self.directory.take().expect("the directory is there until drop").keep()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.as_ref().expect("the directory is there until drop").path()
    }

    /// A directory inside it, made (0700) if it is not there.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(&path).expect("making a directory in the scratch directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("making it private");
        path
    }

    /// A file inside it with this text; its directories are made.
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

/// The file, made and locked. Another test may have taken it for a forgotten one before it was locked, and have
/// removed it.
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

/// Ends what is left of tests that were killed.
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
