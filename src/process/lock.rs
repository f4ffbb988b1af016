//! A lock that allows one daemon per state directory.
//!
//! The kernel lock on `<directory>/lock` decides. It becomes free when its holder exits for whatever reason,
//! or milliseconds later if the holder was just starting a process. The file's content says who holds the
//! lock and since when, for people and to check whether that process still runs. The file is never removed:
//! otherwise two holders could lock two files of the same name.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::process_key::ProcessKey;
use super::reexec;

/// How long a dead holder's lock may stay locked: a process that it was starting holds copies of all
/// descriptors until exec.
const LET_GO_WITHIN: Duration = Duration::from_secs(5);

/// Pause between two attempts to take such a lock.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Held until dropped.
#[derive(Debug)]
pub struct StateLock {
    file: File,
}

/// Why the lock could not be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error("{} is held by {by}", path.display())]
    Held {
        /// The directory.
        path: PathBuf,
        /// The holder, according to the lock file.
        by: HeldBy,
    },
    /// The lock file cannot be used.
    #[error("locking {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// How long to wait for the holder to write its pid.
const SAYS_WHO_WITHIN: Duration = Duration::from_secs(1);

/// The holder of a lock, as recorded in the lock file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBy {
    /// Its process id; `None` until the holder has written it.
    pub pid: Option<u32>,
    /// When it took the lock, in seconds since 1970.
    pub since_unix_s: Option<u64>,
    /// Its start time in clock ticks since boot. Together with the boot id this distinguishes it from a later
    /// process with the same pid.
    #[serde(default)]
    pub start_time: Option<u64>,
    /// The boot id.
    #[serde(default)]
    pub boot_id: Option<String>,
}

impl StateLock {
    /// Takes the lock of a directory. Blocks, but only while a dead holder's lock is still held.
    ///
    /// # Errors
    /// When another process holds the lock, or the file cannot be created.
    pub fn acquire(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join("lock");
        let failed = |source| LockError::Io { path: path.clone(), source };
        // The program that this process ran before exec has kept the lock.
        if let Some(file) = reexec::handed_over(&path)
            && file.try_lock().is_ok()
        {
            return Self::held(file).map_err(failed);
        }
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let begin = Instant::now();
        while let Err(error) = file.try_lock() {
            if let TryLockError::Error(source) = error {
                return Err(failed(source));
            }
            // Without an entry, a probe holds the lock, or its owner has not written its pid yet.
            let by = HeldBy::read(&path);
            if by.has_said_who_and_lives() || begin.elapsed() > LET_GO_WITHIN {
                return Err(LockError::Held { path: directory.to_owned(), by });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Self::held(file).map_err(failed)
    }

    /// Records this process as the holder.
    fn held(mut file: File) -> io::Result<Self> {
        let line = HeldBy::this_process().line();
        file.rewind()?;
        // Overwrites in place: on a full disk this needs no new space.
        file.write_all(&line)?;
        file.set_len(line.len() as u64)?;
        Ok(Self { file })
    }

    /// Whether the lock file is still at its path. It is not if its directory was removed or replaced.
    #[must_use]
    pub fn is_in_place(&self, directory: &Path) -> bool {
        match (fs::metadata(directory.join("lock")), self.file.metadata()) {
            (Ok(there), Ok(held)) => (there.dev(), there.ino()) == (held.dev(), held.ino()),
            (Err(error), _) => {
                !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            }
            // A failed check proves nothing.
            (_, Err(_)) => true,
        }
    }

    /// The locked file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Returns the holder of a directory's lock, or `None` if it is free. Creates nothing. Blocks briefly
    /// while a holder starts or exits.
    ///
    /// # Errors
    /// When the lock file exists but cannot be checked.
    pub fn holder(directory: &Path) -> Result<Option<HeldBy>, LockError> {
        let path = directory.join("lock");
        let failed = |source| LockError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let begin = Instant::now();
        loop {
            match file.try_lock_shared() {
                Ok(()) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) => {}
            }
            let by = HeldBy::read(&path);
            if by.has_said_who_and_lives() || begin.elapsed() > SAYS_WHO_WITHIN {
                return Ok(Some(by));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl HeldBy {
    fn this_process() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        // Without `/proc`, record the pid alone.
        let identity = ProcessKey::of_self().ok();
        Self {
            pid: Some(std::process::id()),
            since_unix_s: since.map(|since| since.as_secs()),
            start_time: identity.as_ref().map(|identity| identity.start_time),
            boot_id: identity.map(|identity| identity.boot_id),
        }
    }

    /// Whether the holder still runs. An unknown holder, or one that cannot be checked, counts as running:
    /// waiting makes sense only for a holder that has exited.
    fn is_alive(&self) -> bool {
        let Some(pid) = self.pid else { return true };
        match self.named(pid).and_then(|holder| holder.is_alive()) {
            Ok(is_alive) => is_alive,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    fn has_said_who_and_lives(&self) -> bool {
        self.pid.is_some() && self.is_alive()
    }

    /// Identifies the holder; `None` if it is unknown or has exited.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn identity(&self) -> io::Result<Option<ProcessKey>> {
        let Some(pid) = self.pid.filter(|_| self.is_alive()) else { return Ok(None) };
        self.named(pid).map(Some)
    }

    fn named(&self, pid: u32) -> io::Result<ProcessKey> {
        match (self.start_time, self.boot_id.clone()) {
            (Some(start_time), Some(boot_id)) => Ok(ProcessKey { pid, start_time, boot_id }),
            // Earlier versions recorded only the pid.
            _ => ProcessKey::of(pid),
        }
    }

    fn read(path: &Path) -> Self {
        fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

impl std::fmt::Display for HeldBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = StateLock::acquire(directory.path()).expect("free");
        let error = StateLock::acquire(directory.path()).expect_err("held");
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        let LockError::Held { by, .. } = error else { panic!("not held: {error}") };
        assert_eq!(by.pid, Some(std::process::id()));
        assert!(by.since_unix_s.expect("a time") > 1_600_000_000);
        let holder = StateLock::holder(directory.path()).expect("a look").expect("held");
        assert_eq!(holder.identity().expect("a look"), ProcessKey::of_self().ok());
        drop(first);
        assert_eq!(StateLock::holder(directory.path()).expect("a look"), None);
        StateLock::acquire(directory.path()).expect("free again");
    }

    #[test]
    fn a_look_makes_nothing() {
        assert_eq!(StateLock::holder(Path::new("/nowhere/at/all")).expect("nobody"), None);
    }

    #[test]
    fn the_next_process_of_its_number_is_not_the_holder() {
        let own = HeldBy::this_process();
        assert!(own.is_alive() && HeldBy::default().is_alive());
        let earlier = own.start_time.map(|start_time| start_time - 1);
        assert!(!HeldBy { start_time: earlier, ..own.clone() }.is_alive());
        assert!(!HeldBy { boot_id: Some("another".to_owned()), ..own }.is_alive());
    }

    /// A dead holder's lock may stay locked for a moment, and its pid may belong to another process.
    #[test]
    fn a_lock_whose_holder_has_ended_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let mut held = File::options().create(true).truncate(true).write(true).open(&path).expect("made");
        held.lock().expect("free");
        let own = HeldBy::this_process();
        let dead = HeldBy { start_time: own.start_time.map(|start_time| start_time - 1), ..own };
        held.write_all(&dead.line()).expect("written");
        let waiting = std::thread::spawn({
            let directory = directory.path().to_owned();
            move || StateLock::acquire(&directory)
        });
        std::thread::sleep(LOOK_AGAIN * 5);
        assert!(!waiting.is_finished(), "it does not give up at once");
        drop(held);
        waiting.join().expect("no panic").expect("taken");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = StateLock::acquire(Path::new("/nowhere/at/all")).expect_err("missing");
        assert!(error.to_string().contains("/nowhere/at/all/lock"), "{error}");
    }
}
