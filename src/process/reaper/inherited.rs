//! What a reaper takes over from the daemon that started it.

#![expect(unsafe_code, reason = "an inherited descriptor and ignored signals are taken on trust")]

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

/// The control socket, whose number is the argument after `reaper`.
pub(super) fn control_socket() -> io::Result<UnixStream> {
    let number = std::env::args().nth(2).and_then(|number| number.parse::<RawFd>().ok());
    let number = number.filter(|&number| number > 2).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: asks only whether the number is an open descriptor.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and the daemon passed it on for nobody but us.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(socket.into())
}

/// A reaper ends when its job is over, and not with the terminal or service it was started from.
pub(super) fn ignore_signals() -> io::Result<()> {
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
