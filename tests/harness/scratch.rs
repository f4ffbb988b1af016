//! A directory of the test's own: removed when the test succeeds, kept and named when it fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A private directory (0700) with a short path, so that Unix sockets below it have room.
pub struct Scratch(Option<tempfile::TempDir>);

impl Scratch {
    /// A new empty directory.
    pub fn new() -> Scratch {
        let directory = tempfile::Builder::new().prefix("pb-").tempdir().expect("making a scratch directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700))
            .expect("making the scratch directory private");
        Scratch(Some(directory))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.as_ref().expect("the directory is there until drop").path()
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
        if let Some(directory) = self.0.take()
            && std::thread::panicking()
        {
            eprintln!("the test's files are kept in {}", directory.keep().display());
        }
    }
}
