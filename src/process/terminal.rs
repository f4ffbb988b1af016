//! Our end of a job's terminal: a pseudo terminal, of which the job has the other end.
//!
//! Guarantees: what the job writes is read to the last byte; then, when nobody holds the other end any
//! more, reading is at its end (the kernel calls that an error). A new size is told to whatever is in
//! the foreground, by the kernel, with SIGWINCH. What is written here that nobody reads yet is not
//! taken: writing waits. A hang-up ends both, for good, also if somebody opens the other end again later.
//!
//! Limits: as with every terminal, while lines are edited by the kernel it forgets what is typed
//! beyond 4,095 bytes of one line.

#![expect(unsafe_code, reason = "a terminal is watched by its descriptor, and sized by a bare system call")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::pty::{Winsize, openpty};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Uid, fchown, geteuid};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::spec::StartError;
use super::user::User;
use peerbus_protocol::TtySize;

/// Our end. Clones are the same terminal; one may read and one may write at the same time.
#[derive(Debug, Clone)]
pub struct Terminal {
    ours: Arc<AsyncFd<File>>,
}

impl Terminal {
    /// Opens a terminal: ours, and the job's end.
    pub(super) fn open(size: TtySize) -> io::Result<(Self, OwnedFd)> {
        let pair = openpty(Some(&winsize(size)), None)?;
        for end in [&pair.master, &pair.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
        // SAFETY: a file keeps its one descriptor, and keeps it open, for as long as it lives.
        let ours = unsafe { AsyncFd::register(File::from(pair.master)) }?;
        Ok((Self { ours: Arc::new(ours) }, pair.slave))
    }

    /// It as two pipes: what is typed, and what is shown. At its end reading fails with `EIO`.
    ///
    /// # Errors
    /// What the system says, as when there are no descriptors left.
    pub fn pipes(&self) -> io::Result<(Sender, Receiver)> {
        let again = || self.ours.get_ref().as_fd().try_clone_to_owned();
        Ok((Sender::from_owned_fd_unchecked(again()?)?, Receiver::from_owned_fd_unchecked(again()?)?))
    }

    /// Gives it another size. Whatever is in its foreground is told.
    ///
    /// # Errors
    /// What the system says.
    pub fn resize(&self, size: TtySize) -> io::Result<()> {
        let size = winsize(size);
        // SAFETY: the kernel reads one structure, which lives longer than the call.
        let done = unsafe { libc::ioctl(self.ours.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The size it has.
    ///
    /// # Errors
    /// What the system says.
    pub fn size(&self) -> io::Result<TtySize> {
        let mut size = winsize(TtySize::USUAL);
        // SAFETY: the kernel writes one structure, which lives longer than the call.
        let done = unsafe { libc::ioctl(self.ours.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(TtySize { cols: size.ws_col, rows: size.ws_row })
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.ours.poll_read_ready(cx))?;
            let room = to.initialize_unfilled();
            match ready.try_io(|ours| ours.get_ref().read(room)) {
                Ok(Ok(count)) => {
                    to.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // So the kernel says that nobody holds the other end any more.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                // Hung up, and opened again since: what comes now is for nobody.
                Err(_would_block) if ready.ready().is_read_closed() => return Poll::Ready(Ok(())),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.ours.poll_write_ready(cx))?;
            match ready.try_io(|ours| ours.get_ref().write(bytes)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(done) => return Poll::Ready(done),
                // Hung up while it was full: this readiness never goes away.
                Err(_would_block) if ready.ready().is_write_closed() => {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Makes the job's end its user's, as a login does, so that it can be opened by its name.
pub(super) fn give_to(theirs: &OwnedFd, user: Option<&str>) -> Result<(), StartError> {
    let owner_and_messages = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IWGRP;
    let uid = User::find(user)?.credentials.map_or(geteuid(), |become_| Uid::from_raw(become_.uid));
    fchown(theirs.as_fd(), Some(uid), None)
        .and_then(|()| fchmod(theirs.as_fd(), owner_and_messages))
        .map_err(|errno| StartError::system("giving the terminal to its user", &errno.into()))
}

fn winsize(size: TtySize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}
