//! The terminal that a person sits at: every key as it is typed, and back to what it was before.
//!
//! Guarantees: whatever ends the program but SIGKILL, a panic too, the terminal is as it was before
//! [`Console::raw`].

#![expect(unsafe_code, reason = "the size of a terminal is asked for by a bare system call")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

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
