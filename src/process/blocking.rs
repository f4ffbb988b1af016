//! Reads and writes descriptors that another process may have made non-blocking.
//!
//! `O_NONBLOCK` belongs to the open file, which `d` shares with its parent: node, bun, .NET, expect and GNU
//! parallel pass on such pipes and terminals. There EAGAIN means "wait", never an end or an error. Clearing
//! the flag here would clear it for the other processes, too.

use std::io::{Read, Result, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};

/// A descriptor with blocking reads and writes, whatever its flags. Buffers nothing.
#[derive(Debug)]
pub struct Blocking<T>(pub T);

impl<T: AsFd> Read for Blocking<T> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        waiting(self.0.as_fd(), PollFlags::POLLIN, |fd| read(fd, buffer))
    }
}

impl<T: AsFd> Write for Blocking<T> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        waiting(self.0.as_fd(), PollFlags::POLLOUT, |fd| write(fd, bytes))
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn waiting(
    fd: BorrowedFd<'_>,
    readiness: PollFlags,
    mut attempt: impl FnMut(BorrowedFd<'_>) -> nix::Result<usize>,
) -> Result<usize> {
    loop {
        match attempt(fd) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => match poll(&mut [PollFd::new(fd, readiness)], PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            },
            done => return Ok(done?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::thread;

    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;

    use super::*;

    #[test]
    fn a_full_or_empty_pipe_is_waited_for() {
        let (from, to): (OwnedFd, OwnedFd) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).expect("a pipe");
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let wanted = sent.clone();
        let writer = thread::spawn(move || Blocking(to).write_all(&sent));
        let mut got = Vec::new();
        Blocking(from).read_to_end(&mut got).expect("read");
        writer.join().expect("no panic").expect("written");
        assert!(got == wanted, "{} of {} bytes arrived", got.len(), wanted.len());
    }
}
