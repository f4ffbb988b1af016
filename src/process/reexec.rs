//! One program taking the place of another in the same process, as a daemon does for its next version.
//!
//! Guarantees: the process keeps its number, its start time, its standard input and outputs, and the lock of
//! its state directory, which is held without a moment's gap: the descriptor with the lock is the one thing
//! beside these that the next program finds open. A signal that arrives in between waits until the next
//! program can take it. When the next program cannot be executed, everything is as it was.

#![expect(unsafe_code, reason = "a descriptor that was handed over is taken up by its number")]

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::unistd::execve;
use serde::{Deserialize, Serialize};

use super::fd_limit;
use super::job::reap;
use super::lock::StateLock;
use super::pidfd::PidFd;
use super::stat::Stat;

/// What a daemon listens to. Each of them ends a process that does not (yet).
const LISTENED_TO: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1];

/// Which file is meant, whatever its name is now.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    /// When it was made, in nanoseconds since 1970: numbers are used again, for a later version of the same length, too.
    /// Not every file system knows it, nor does every daemon that wrote such an id down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_ns: Option<u64>,
}

impl PartialEq for FileId {
    fn eq(&self, other: &Self) -> bool {
        let numbers = |id: &Self| (id.device, id.inode, id.size);
        let made_apart = self.made_ns.zip(other.made_ns).is_some_and(|(one, two)| one != two);
        numbers(self) == numbers(other) && !made_apart
    }
}

impl FileId {
    /// That of the file at a path, at the end of links.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(path: &Path) -> io::Result<Self> {
        let file = fs::metadata(path)?;
        let made = file.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let made_ns = made.and_then(|at| u64::try_from(at.as_nanos()).ok());
        Ok(Self { device: file.dev(), inode: file.ino(), size: file.len(), made_ns })
    }

    /// That of the program that runs here, also where its file was removed.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn of_running() -> io::Result<Self> {
        Self::of(Path::new("/proc/self/exe"))
    }
}

/// Becomes another program. Signals are to be held back. Returns only when that failed.
pub fn become_program(
    program: &Path,
    arguments: &[OsString],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    lock: &StateLock,
) -> io::Error {
    let c_string = |text: &[u8]| CString::new(text).map_err(io::Error::other);
    let become_it = || -> io::Result<io::Error> {
        let path = c_string(program.as_os_str().as_bytes())?;
        let arguments: Vec<CString> =
            arguments.iter().map(|word| c_string(word.as_bytes())).collect::<io::Result<_>>()?;
        let variables = environment.into_iter().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            c_string(name.as_bytes())
        });
        let environment: Vec<CString> = variables.collect::<io::Result<_>>()?;
        hand_on(lock.file(), FdFlag::empty())?;
        let limits = fd_limit::as_before();
        let Err(failed) = execve(&path, &arguments, &environment);
        // Still this program: as it was.
        if limits.is_ok() {
            let _ = fd_limit::raise_descriptor_limit();
        }
        hand_on(lock.file(), FdFlag::FD_CLOEXEC)?;
        Ok(failed.into())
    };
    become_it().unwrap_or_else(|error| error)
}

fn hand_on(file: &File, flags: FdFlag) -> io::Result<()> {
    fcntl(file.as_fd(), FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// As a set.
pub(super) fn listened_to() -> SigSet {
    LISTENED_TO.into_iter().collect()
}

/// Holds back the signals that a daemon listens to, in this thread and those that it makes from now on. Where
/// that is all of them, none is lost: what comes waits, also for the program that takes over.
///
/// # Errors
/// What the system says.
pub fn hold_signals_back() -> io::Result<()> {
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&listened_to()), None)?;
    Ok(())
}

/// Lets the signals in that a daemon [holds back](hold_signals_back), for whoever is none.
///
/// # Errors
/// What the system says.
pub fn let_signals_in() -> io::Result<()> {
    pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&listened_to()), None)?;
    Ok(())
}

/// The open file of this path that the program before this one has handed over. Every other descriptor is
/// closed on execution, so one that is not was left open for us.
pub(super) fn handed_over(path: &Path) -> Option<File> {
    let wanted = FileId::of(path).ok()?;
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    let is_it = |fd: &RawFd| {
        // SAFETY: a system call on a number; one that is not open (any more) is said to be so.
        let flags = unsafe { libc::fcntl(*fd, libc::F_GETFD) };
        let left_open = flags >= 0 && flags & libc::FD_CLOEXEC == 0;
        left_open && FileId::of(Path::new(&format!("/proc/self/fd/{fd}"))).is_ok_and(|file| file == wanted)
    };
    let fd = open.into_iter().find(is_it)?;
    // SAFETY: it is open and nobody's: what this process itself opens is closed on execution.
    let file = unsafe { File::from_raw_fd(fd) };
    hand_on(&file, FdFlag::FD_CLOEXEC).ok()?;
    Some(file)
}

/// Gives this process the name that `ps` and others show: that of the program, not of the file it was executed
/// from. It is for people, so where that fails nothing is lost.
pub fn be_called(name: &OsStr) {
    let _ = fs::write("/proc/self/comm", name.as_bytes());
}

/// Sees to the end of every child that the program before this one has left to us. To be called first of
/// all, while there are no others.
pub fn reap_inherited() {
    let own = std::process::id();
    for child in Stat::all().unwrap_or_default().into_iter().filter(|stat| stat.parent == own) {
        let Ok(pidfd) = PidFd::open(child.pid).and_then(|pidfd| pidfd.watched()) else { continue };
        tokio::spawn(async move { reap(child.pid, &pidfd).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_executed_leaves_everything_as_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let lock = StateLock::acquire(directory.path()).expect("free");
        let garbage = directory.path().join("garbage");
        fs::write(&garbage, "no program").expect("written");
        let error = become_program(&garbage, &["x".into()], [], &lock);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        assert!(handed_over(&directory.path().join("lock")).is_none(), "the lock is ours alone again");
        StateLock::acquire(directory.path()).expect_err("still held");
    }

    #[test]
    fn a_later_file_is_another_one_whatever_its_numbers() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, kept) = (directory.path().join("d"), directory.path().join("kept"));
        fs::write(&path, "one").expect("written");
        let first = FileId::of(&path).expect("there");
        fs::rename(&path, &kept).expect("renamed");
        assert_eq!(FileId::of(&kept).expect("there"), first);
        fs::remove_file(&kept).expect("removed");
        // The clock of a file system moves in steps.
        std::thread::sleep(std::time::Duration::from_millis(50));
        fs::write(&path, "two").expect("written");
        let second = FileId::of(&path).expect("there");
        assert_ne!(second, first);
        let unknown = FileId { made_ns: None, ..second };
        assert_eq!(unknown, second, "by one who did not know when it was made");
        assert_ne!(FileId { size: 4, ..unknown }, second);
    }

    #[test]
    fn a_lock_that_was_left_open_is_taken_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let lock = StateLock::acquire(directory.path()).expect("free");
        hand_on(lock.file(), FdFlag::empty()).expect("marked");
        let again = StateLock::acquire(directory.path()).expect("handed over");
        assert!(handed_over(&path).is_none(), "once");
        // Both are the same open file here; after an execution there is one.
        std::mem::forget(again);
        let held: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).expect("read")).expect("whole, from its beginning");
        assert_eq!(held["pid"], std::process::id());
    }
}
