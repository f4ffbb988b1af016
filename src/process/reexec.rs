//! Replaces the running program within the same process, as a daemon does for its next version.
//!
//! Guarantees: the process keeps its pid, start time, standard streams and the lock of its state directory,
//! which is held without a gap. The next program inherits no other descriptors. A signal that arrives
//! meanwhile stays pending until the next program can receive it. If exec fails, everything is as before.

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

/// The signals a daemon listens to. Each one kills a process that does not listen (yet).
const LISTENED_TO: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1];

/// Identifies a file, whatever its name is now.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    /// Its creation time, in nanoseconds since 1970: inode numbers are reused, even for a later version of
    /// the same length. Missing on some file systems, and in ids that older daemons recorded.
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
    /// The id of the file at a path, following links.
    ///
    /// # Errors
    /// When the file does not exist.
    pub fn of(path: &Path) -> io::Result<Self> {
        let file = fs::metadata(path)?;
        let made = file.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let made_ns = made.and_then(|at| u64::try_from(at.as_nanos()).ok());
        Ok(Self { device: file.dev(), inode: file.ino(), size: file.len(), made_ns })
    }

    /// The id of the running program, even if its file was removed.
    ///
    /// # Errors
    /// When `/proc` is missing.
    pub fn of_running() -> io::Result<Self> {
        Self::of(Path::new("/proc/self/exe"))
    }
}

/// Executes another program. Block signals first. Returns only on failure.
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
        // Still the old program: restore its state.
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

/// The same as a set.
pub(super) fn listened_to() -> SigSet {
    LISTENED_TO.into_iter().collect()
}

/// Blocks the signals that a daemon listens to, in this thread and in those it creates later. If all threads
/// block them, no signal is lost: it stays pending, even across exec.
///
/// # Errors
/// The system's error.
pub fn hold_signals_back() -> io::Result<()> {
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&listened_to()), None)?;
    Ok(())
}

/// Unblocks the signals that a daemon [blocks](hold_signals_back), for other programs.
///
/// # Errors
/// The system's error.
pub fn let_signals_in() -> io::Result<()> {
    pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&listened_to()), None)?;
    Ok(())
}

/// The open file at this path that the previous program handed over. All other descriptors are close-on-exec,
/// so one without that flag was meant for us.
pub(super) fn handed_over(path: &Path) -> Option<File> {
    let wanted = FileId::of(path).ok()?;
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    let is_it = |fd: &RawFd| {
        // SAFETY: a system call on a number; it returns an error if that is not open.
        let flags = unsafe { libc::fcntl(*fd, libc::F_GETFD) };
        let left_open = flags >= 0 && flags & libc::FD_CLOEXEC == 0;
        left_open && FileId::of(Path::new(&format!("/proc/self/fd/{fd}"))).is_ok_and(|file| file == wanted)
    };
    let fd = open.into_iter().find(is_it)?;
    // SAFETY: it is open and has no owner: this process opens its own files as close-on-exec.
    let file = unsafe { File::from_raw_fd(fd) };
    hand_on(&file, FdFlag::FD_CLOEXEC).ok()?;
    Some(file)
}

/// Sets the process name that `ps` shows to that of the program instead of its file. Failure is harmless.
pub fn be_called(name: &OsStr) {
    let _ = fs::write("/proc/self/comm", name.as_bytes());
}

/// Waits for all children that the previous program left. Call this first, while there are no other children.
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
        // File system timestamps are coarse.
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
        // Both are the same open file here; after an exec there is only one.
        std::mem::forget(again);
        let held: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).expect("read")).expect("whole, from its beginning");
        assert_eq!(held["pid"], std::process::id());
    }
}
