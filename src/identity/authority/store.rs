//! The directory of the fleet's keys and records.

use std::fmt::Display;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::AuthorityError;
use crate::key::Key;

#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

/// Held during a change.
pub(super) struct Lock(#[expect(dead_code, reason = "it is locked for as long as it is open")] fs::File);

impl Store {
    /// Creates the directory if it does not exist.
    pub(super) fn create(directory: &Path) -> Result<Self, AuthorityError> {
        let this = Self { directory: directory.to_owned() };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| this.io("making", "", source))?;
        this.check_rights("")?;
        Ok(this)
    }

    pub(super) fn open(directory: &Path) -> Result<Self, AuthorityError> {
        let this = Self { directory: directory.to_owned() };
        this.check_rights("")?;
        Ok(this)
    }

    /// Waits for exclusive access.
    pub(super) fn lock(&self) -> Result<Lock, AuthorityError> {
        let io = |source| self.io("locking", "lock", source);
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(self.path("lock")).map_err(io)?;
        file.lock().map_err(io)?;
        Ok(Lock(file))
    }

    pub(super) fn holds(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Reads one line of text.
    pub(super) fn read(&self, name: &str) -> Result<String, AuthorityError> {
        self.check_rights(name)?;
        let text = fs::read_to_string(self.path(name)).map_err(|source| self.io("reading", name, source))?;
        Ok(text.trim().to_owned())
    }

    pub(super) fn key(&self, name: &str) -> Result<Key, AuthorityError> {
        Key::from_seed(&self.read(name)?).map_err(|bad| self.malformed(name, &bad))
    }

    /// Reads a file of records; a missing file is empty.
    pub(super) fn book<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, AuthorityError> {
        if !self.holds(name) {
            return Ok(Vec::new());
        }
        serde_json::from_str(&self.read(name)?).map_err(|bad| self.malformed(name, &bad))
    }

    pub(super) fn write_book<T: Serialize>(&self, name: &str, book: &[T]) -> Result<(), AuthorityError> {
        let text = serde_json::to_string_pretty(book).map_err(|bad| self.malformed(name, &bad))?;
        self.write(name, &text)
    }

    /// Replaces a file atomically, readable by its owner alone.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), AuthorityError> {
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(self.path(name))?;
            fs::File::open(&self.directory)?.sync_all()
        };
        write().map_err(|source| self.io("writing", name, source))
    }

    pub(super) fn malformed(&self, name: &str, why: &dyn Display) -> AuthorityError {
        AuthorityError::Malformed { path: self.path(name).display().to_string(), why: why.to_string() }
    }

    fn check_rights(&self, name: &str) -> Result<(), AuthorityError> {
        let path = self.path(name);
        let found = fs::metadata(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound if name.is_empty() => {
                self.io("there are no keys of a fleet: looking for", name, source)
            }
            _ => self.io("reading", name, source),
        })?;
        let mode = found.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(AuthorityError::Exposed { path: path.display().to_string(), mode });
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.directory.clone() } else { self.directory.join(name) }
    }

    fn io(&self, what: &'static str, name: &str, source: std::io::Error) -> AuthorityError {
        AuthorityError::Io { what, path: self.path(name).display().to_string(), source }
    }
}
