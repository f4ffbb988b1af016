//! Inherited descriptors and signal dispositions.

#![expect(unsafe_code, reason = "an inherited descriptor and ignored signals are taken on trust")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::reexec::listened_to;

/// Takes over an inherited descriptor whose number is in an argument. Call this once per descriptor.
///
/// # Errors
/// When the argument is not the number of an open descriptor.
pub fn inherited(number: Option<&str>) -> io::Result<OwnedFd> {
    let number = number.and_then(|number| number.parse::<RawFd>().ok());
    let number = number.filter(|&number| number > 2).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: asks only whether the number is an open descriptor.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and the daemon passed it on for nobody but us.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(descriptor)
}

/// Duplicates the descriptor with this number, as `/dev/fd/NUMBER` names it. The copy shares its position.
/// Also works for sockets.
///
/// # Errors
/// When the descriptor is not open.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: makes a new descriptor, or none; the old one is not touched.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is new, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Whether a signal is ignored now, as set by `nohup` and `trap '' TERM`.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros is a valid value of the structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: changes nothing, and writes one structure, which lives longer than the call.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Resets inherited signal settings that every program here relies on. Some supervisors and shells ignore
/// SIGCHLD or block signals, and both survive an exec. With SIGCHLD ignored, the kernel reaps children and
/// their exit status is lost. A blocked signal is never received.
///
/// Other ignored signals stay ignored, as `nohup` requires. The signals a daemon listens to stay blocked:
/// after a daemon was replaced by this program, they stay pending until it [unblocks
/// them](super::let_signals_in). Call this before there is a second thread.
pub fn reset_inherited_signals() {
    // SAFETY: the default disposition runs no handler. It cannot fail for a signal that exists.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    let others: SigSet = SigSet::all().iter().filter(|other| !listened_to().contains(*other)).collect();
    let _ = pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&others), None);
}

/// Takes over the original standard input and replaces it by `/dev/null`.
///
/// # Errors
/// The system's error.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let taken = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(taken)
}

/// Ignores signals from the terminal or service that started this process: a job's supervisor exits only when
/// the job is over.
///
/// # Errors
/// The system's error.
pub fn ignore_signals() -> io::Result<()> {
    for number in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: ignoring runs no handler.
        unsafe { signal(number, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// Closes the inherited pipes of the job, so that they close when the job closes them.
pub(super) fn let_go_of_pipes() -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    dup2_stderr(&nothing)?;
    Ok(())
}
