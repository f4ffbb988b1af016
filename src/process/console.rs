//! The user's terminal: raw mode, and restoring it.
//!
//! Guarantees: the terminal is restored to its state before [`Console::raw`] however the program ends, even
//! by a panic, except by SIGKILL.

#![expect(unsafe_code, reason = "the size of a terminal is asked for by a bare system call")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// The result of a wait for input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// This many bytes can be read; zero if the terminal is gone.
    Typed(usize),
    /// The wait was stopped.
    Stopped,
    /// The timeout has passed.
    TimedOut,
}

/// The terminal on standard input.
#[derive(Debug)]
pub struct Console {
    terminal: OwnedFd,
    before: Termios,
}

impl Console {
    /// The terminal on standard input; `None` if standard input is something else.
    #[must_use]
    pub fn of_input() -> Option<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned().ok()?;
        let before = tcgetattr(&terminal).ok()?;
        Some(Self { terminal, before })
    }

    /// Enters raw mode: every key arrives as typed, even Ctrl-C, without echo.
    ///
    /// # Errors
    /// The system's error.
    pub fn raw(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        Ok(tcsetattr(&self.terminal, SetArg::TCSADRAIN, &raw)?)
    }

    /// The terminal for unbuffered reads: unread input stays for the next reader.
    ///
    /// # Errors
    /// The system's error.
    pub fn input(&self) -> io::Result<File> {
        Ok(File::from(self.terminal.try_clone()?))
    }

    /// Restores the earlier state.
    ///
    /// # Errors
    /// The system's error, for example if the terminal is gone.
    pub fn restore(&self) -> io::Result<()> {
        // Do not drain: on a terminal that nobody reads, pending output never drains.
        Ok(tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before)?)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to restore.
        let _ = self.restore();
    }
}

/// Waits for input from a terminal, until the other end of `stop` is closed, or until the timeout.
///
/// # Errors
/// The system's error.
pub fn wait_for_keys(
    terminal: &impl AsFd,
    stop: Option<&impl AsFd>,
    at_most: Option<Duration>,
) -> io::Result<Wait> {
    let at_most = at_most.and_then(|at_most| PollTimeout::try_from(at_most).ok());
    let mut ends = vec![PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
    ends.extend(stop.map(|stop| PollFd::new(stop.as_fd(), PollFlags::POLLIN)));
    loop {
        match poll(&mut ends, at_most.unwrap_or(PollTimeout::NONE)) {
            Ok(0) => return Ok(Wait::TimedOut),
            Ok(_) if ends.get(1).is_some_and(|stop| stop.any() == Some(true)) => return Ok(Wait::Stopped),
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut count: libc::c_int = 0;
    // SAFETY: the kernel writes one number, which lives longer than the call.
    let done = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) };
    match done {
        0 => Ok(Wait::Typed(usize::try_from(count).unwrap_or(0))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The signals that suspend and resume a program.
pub const SUSPENDS: i32 = libc::SIGTSTP;
/// See [`SUSPENDS`].
pub const CONTINUES: i32 = libc::SIGCONT;

/// Suspends this process like Ctrl-Z, until it is resumed.
///
/// # Errors
/// The system's error.
pub fn suspend() -> io::Result<()> {
    // Not SIGTSTP, which has a handler.
    Ok(raise(Signal::SIGSTOP)?)
}

/// Columns and rows of the terminal on standard input or output. Either may be 0 if the terminal does not
/// know its size.
#[must_use]
pub fn console_size() -> Option<(u16, u16)> {
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    [output.as_fd(), input.as_fd(), error.as_fd()].into_iter().find_map(|fd| {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel writes one structure, which lives longer than the call.
        let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
        (done == 0).then_some((size.ws_col, size.ws_row))
    })
}
