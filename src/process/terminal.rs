//! Our end of a job's pseudo terminal. The job has the other end.
//!
//! Guarantees: all output of the job is read. Reading ends when nobody holds the other end any more (the
//! kernel reports this as EIO). The kernel announces a new size to the foreground processes with SIGWINCH. If
//! nobody reads the input, writing waits. A hang-up ends both directions for good, even if somebody reopens
//! the other end.
//!
//! Limits: as on every terminal, in canonical mode the kernel discards typed input beyond 4,095 bytes per
//! line.

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

/// Our end. Clones share the terminal; one may read while another writes.
#[derive(Debug, Clone)]
pub struct Terminal {
    ours: Arc<AsyncFd<File>>,
}

impl Terminal {
    /// Opens a terminal: our end and the job's end.
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

    /// Splits it into two pipes: input and output. At the end of output, reading fails with `EIO`.
    ///
    /// # Errors
    /// The system's error, for example for lack of descriptors.
    pub fn pipes(&self) -> io::Result<(Sender, Receiver)> {
        let again = || self.ours.get_ref().as_fd().try_clone_to_owned();
        Ok((Sender::from_owned_fd_unchecked(again()?)?, Receiver::from_owned_fd_unchecked(again()?)?))
    }

    /// Changes the size. The kernel notifies the foreground processes.
    ///
    /// # Errors
    /// The system's error.
    pub fn resize(&self, size: TtySize) -> io::Result<()> {
        let size = winsize(size);
        // SAFETY: the kernel reads one structure, which lives longer than the call.
        let done = unsafe { libc::ioctl(self.ours.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The current size.
    ///
    /// # Errors
    /// The system's error.
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
                // EIO means that nobody holds the other end any more.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                // Hung up and reopened: ignore further output.
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
                // Hung up while full: this readiness is permanent.
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

/// Gives the job's end to its user, like a login, so that the job can open it by name.
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
