//! The terminal that a person sits at: every key as it is typed, and back to what it was before.
//!
//! Guarantees: whatever ends the program but SIGKILL, a panic too, the terminal is as it was before
//! [`Console::raw`].

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

/// What was waited for at a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// So many bytes can be read; none where the terminal is gone.
    Typed(usize),
    /// Nobody wants to know any more.
    Stopped,
    /// Too much time has passed.
    TimedOut,
}

/// What standard input is connected to, if that is a terminal.
#[derive(Debug)]
pub struct Console {
    terminal: OwnedFd,
    before: Termios,
}

impl Console {
    /// The terminal of standard input; none if that is something else.
    #[must_use]
    pub fn of_input() -> Option<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned().ok()?;
        let before = tcgetattr(&terminal).ok()?;
        Some(Self { terminal, before })
    }

    /// From now on every key comes as it is typed, Ctrl-C too, and nothing is shown by itself.
    ///
    /// # Errors
    /// What the system says.
    pub fn raw(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        Ok(tcsetattr(&self.terminal, SetArg::TCSADRAIN, &raw)?)
    }

    /// The terminal itself, to read from without a buffer: what is not read stays for whoever reads next.
    ///
    /// # Errors
    /// What the system says.
    pub fn input(&self) -> io::Result<File> {
        Ok(File::from(self.terminal.try_clone()?))
    }

    /// As it was before.
    ///
    /// # Errors
    /// What the system says, as where the terminal is gone.
    pub fn restore(&self) -> io::Result<()> {
        // At once: a terminal that nobody reads any more is never done with what it was given.
        Ok(tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before)?)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Where it is gone there is nothing to restore.
        let _ = self.restore();
    }
}

/// Waits until something can be read from a terminal, until somebody says `stop` by closing their end of it, or for this
/// long.
///
/// # Errors
/// What the system says.
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

/// The signals that have a program stop for a while, and go on.
pub const SUSPENDS: i32 = libc::SIGTSTP;
/// See [`SUSPENDS`].
pub const CONTINUES: i32 = libc::SIGCONT;

/// Stops this process as Ctrl-Z does, until somebody has it go on.
///
/// # Errors
/// What the system says.
pub fn suspend() -> io::Result<()> {
    // Not SIGTSTP, which is listened to.
    Ok(raise(Signal::SIGSTOP)?)
}

/// Columns and rows of the terminal that standard input or output is connected to. Either may be 0
/// where the terminal does not know.
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
