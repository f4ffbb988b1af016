//! What a process takes over from whoever started it: descriptors, and signals that are ignored.

#![expect(unsafe_code, reason = "an inherited descriptor and ignored signals are taken on trust")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::reexec::listened_to;

/// A descriptor that was passed on under this number, as an argument says. To be called once for each.
///
/// # Errors
/// When that is no number of an open descriptor.
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

/// Another descriptor of the file that is open under this number, as `/dev/fd/NUMBER` names it: with its position, and
/// also where that is a socket.
///
/// # Errors
/// When nothing is open under it.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: makes a new descriptor, or none; the old one is not touched.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is new, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Whether a signal is ignored now, as `nohup` and `trap '' TERM` have it for what they start.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros is a valid value of the structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: changes nothing, and writes one structure, which lives longer than the call.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Undoes what the parent may have left of signals and every program here relies on: some supervisors and shells
/// ignore SIGCHLD or block signals, and both survive an exec. With SIGCHLD ignored the kernel reaps children by itself
/// and nobody learns how they ended; a blocked signal is never received.
///
/// Any other signal that is ignored stays ignored, as `nohup` wants it. Those that a daemon listens to stay blocked
/// where they are: a daemon that was replaced by this program has them wait for it until it
/// [lets them in](super::let_signals_in). To be called before there is a second thread.
pub fn reset_inherited_signals() {
    // SAFETY: the default disposition runs no handler. It cannot fail for a signal that exists.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    let others: SigSet = SigSet::all().iter().filter(|other| !listened_to().contains(*other)).collect();
    let _ = pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&others), None);
}

/// What this process was started with as its standard input, which is nothing afterwards.
///
/// # Errors
/// What the system says.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let taken = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(taken)
}

/// Whoever watches over a job ends when that is over, and not with the terminal or service it was
/// started from.
///
/// # Errors
/// What the system says.
pub fn ignore_signals() -> io::Result<()> {
    for number in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: ignoring runs no handler.
        unsafe { signal(number, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// Lets go of the job's pipes, which the reaper was started with: they must close when the job
/// closes them.
pub(super) fn let_go_of_pipes() -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    dup2_stderr(&nothing)?;
    Ok(())
}
