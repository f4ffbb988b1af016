//! Reads the command's two pipes in the order in which bytes arrive.
//!
//! Combines small reads for at most [`GATHER_FOR`] after the previous piece was returned: a single line is
//! sent at once, many small writes share few frames.

#![expect(unsafe_code, reason = "what is in a pipe is asked for by a bare system call")]

use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut, buf::BufMut};
use futures::FutureExt;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use tokio::io::Interest;
use tokio::net::unix::pipe::Receiver;

use peerbus_protocol::frame::{OUTPUT_MAX, StreamKind};
use peerbus_protocol::send_buffer::StreamOffsets;

/// Longest time to combine small reads into one frame.
const GATHER_FOR: Duration = Duration::from_millis(2);

/// Pieces up to this size, in bytes, are copied. A slice of the buffer would keep all 64 KiB of it in memory
/// until the caller frees the piece.
const COPIED: usize = 16 * 1024;

/// Both pipes, and the bytes already read from one of them.
#[derive(Debug)]
pub struct OutputReader {
    out: Option<Receiver>,
    err: Option<Receiver>,
    gathered: BytesMut,
    of: StreamKind,
    passed_on: Option<Instant>,
}

/// The result of a read.
enum ReadResult {
    Bytes,
    Nothing,
    End,
}

impl OutputReader {
    /// A reader without pipes.
    #[must_use]
    pub fn none() -> Self {
        Self { out: None, err: None, gathered: BytesMut::new(), of: StreamKind::Out, passed_on: None }
    }

    /// Reads the pipes of a command. A terminal has one stream, `out`.
    #[must_use]
    pub fn new(out: Receiver, err: impl Into<Option<Receiver>>) -> Self {
        Self { out: Some(out), err: err.into(), ..Self::none() }
    }

    /// Whether both pipes are at end of file and all bytes were returned.
    #[must_use]
    pub fn are_dry(&self) -> bool {
        self.out.is_none() && self.err.is_none() && self.gathered.is_empty()
    }

    /// Whether a process still holds a write end. If not, the remaining bytes end with end of file.
    #[must_use]
    pub fn are_held(&self) -> bool {
        self.open().any(is_held)
    }

    /// How many bytes of each stream are available now, before anybody writes more.
    #[must_use]
    pub fn waiting(&self) -> StreamOffsets {
        let of = |pipe: &Option<Receiver>| pipe.as_ref().map_or(0, in_pipe);
        let mut waiting = StreamOffsets { out: of(&self.out), err: of(&self.err) };
        *waiting.of_mut(self.of) += self.gathered.len() as u64;
        waiting
    }

    /// The names of the write ends, as `/proc/<pid>/fd` shows them.
    pub(super) fn names(&self) -> Vec<PathBuf> {
        self.open().filter_map(name_of_other_end).collect()
    }

    fn open(&self) -> impl Iterator<Item = &Receiver> {
        self.out.iter().chain(&self.err)
    }

    /// The next piece, at most `most` bytes long. Never returns once both pipes have ended. Cancel safe:
    /// bytes already read stay in the buffer.
    pub async fn next(&mut self, most: u64) -> (StreamKind, Bytes) {
        let most = usize::try_from(most).unwrap_or(OUTPUT_MAX).min(OUTPUT_MAX);
        loop {
            let full = self.gathered.len() >= most;
            let ended = self.pipe(self.of).is_none();
            if !self.gathered.is_empty() && (full || ended || self.gathered_long_enough()) {
                return self.pass_on(most);
            }
            let gathering = !self.gathered.is_empty();
            let until = self.passed_on.map_or_else(Instant::now, |at| at + GATHER_FOR);
            let ready = tokio::select! {
                () = readable(&self.out) => StreamKind::Out,
                () = readable(&self.err) => StreamKind::Err,
                () = tokio::time::sleep_until(until.into()), if gathering => return self.pass_on(most),
            };
            if gathering && ready != self.of {
                // Return bytes in the order in which they were read.
                return self.pass_on(most);
            }
            self.of = ready;
            if matches!(self.read(ready, most), ReadResult::End) {
                *self.pipe_mut(ready) = None;
            }
            if self.are_dry() {
                return (ready, Bytes::new());
            }
        }
    }

    fn gathered_long_enough(&self) -> bool {
        self.passed_on.is_none_or(|at| at.elapsed() >= GATHER_FOR)
    }

    fn pass_on(&mut self, most: usize) -> (StreamKind, Bytes) {
        self.passed_on = Some(Instant::now());
        let length = self.gathered.len().min(most);
        if length <= COPIED {
            let piece = Bytes::copy_from_slice(&self.gathered[..length]);
            self.gathered.advance(length);
            return (self.of, piece);
        }
        (self.of, self.gathered.split_to(length).freeze())
    }

    fn read(&mut self, stream: StreamKind, most: usize) -> ReadResult {
        let wanted = most - self.gathered.len();
        let Self { out, err, gathered, .. } = self;
        let Some(pipe) = (match stream {
            StreamKind::Out => out,
            StreamKind::Err => err,
        }) else {
            return ReadResult::Nothing;
        };
        gathered.reserve(wanted);
        match pipe.try_read_buf(&mut gathered.limit(wanted)) {
            Ok(0) => ReadResult::End,
            Ok(_) => ReadResult::Bytes,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !is_hung_up(pipe) => {
                ReadResult::Nothing
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => ReadResult::End,
            // On a terminal, EIO means that nobody holds the other end any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => ReadResult::End,
            Err(error) => {
                tracing::error!(%error, "reading a command's output");
                ReadResult::End
            }
        }
    }

    fn pipe(&self, stream: StreamKind) -> &Option<Receiver> {
        match stream {
            StreamKind::Out => &self.out,
            StreamKind::Err => &self.err,
        }
    }

    fn pipe_mut(&mut self, stream: StreamKind) -> &mut Option<Receiver> {
        match stream {
            StreamKind::Out => &mut self.out,
            StreamKind::Err => &mut self.err,
        }
    }

    /// Reads and discards until both pipes end. Closing them instead would kill a server that the command
    /// left behind, with SIGPIPE at its next write.
    pub async fn drain(self) {
        let Self { out, err, .. } = self;
        tokio::join!(discard(out), discard(err));
    }
}

/// Whether a process holds the other end, according to poll(2).
fn is_held(pipe: &Receiver) -> bool {
    let mut poll = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    let looked = nix::poll::poll(&mut poll, PollTimeout::ZERO);
    looked.is_err()
        || poll[0].revents().is_none_or(|is| !is.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}

/// The number of readable bytes.
fn in_pipe(pipe: &Receiver) -> u64 {
    let mut count: libc::c_int = 0;
    // SAFETY: the kernel writes one number, which lives longer than the call.
    let done = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if done < 0 { 0 } else { u64::try_from(count).unwrap_or(0) }
}

/// Both ends of a pipe have the same name. For a terminal we hold the master, so ask it for the slave's name.
fn name_of_other_end(pipe: &Receiver) -> Option<PathBuf> {
    let ours = std::fs::read_link(format!("/proc/self/fd/{}", pipe.as_raw_fd())).ok()?;
    let mut number: libc::c_uint = 0;
    // SAFETY: as above.
    let is_terminal = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::TIOCGPTN, &raw mut number) } == 0;
    Some(if is_terminal { format!("/dev/pts/{number}").into() } else { ours })
}

async fn discard(pipe: Option<Receiver>) {
    let Some(pipe) = pipe else { return };
    let mut waste = vec![0; 4096];
    while pipe.readable().await.is_ok() {
        match pipe.try_read(&mut waste) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !is_hung_up(&pipe) => {}
            Err(_) => return,
        }
    }
}

/// Whether all holders closed the other end at some time. This readiness is permanent: without this check, a
/// terminal whose other end was reopened would cause an endless loop of reads.
fn is_hung_up(pipe: &Receiver) -> bool {
    pipe.ready(Interest::READABLE)
        .now_or_never()
        .is_some_and(|ready| ready.map_or(true, |ready| ready.is_read_closed()))
}

async fn readable(pipe: &Option<Receiver>) {
    match pipe {
        // The next read reports any error.
        Some(pipe) => drop(pipe.readable().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::unix::pipe;

    #[tokio::test]
    async fn a_small_piece_does_not_keep_the_buffer() {
        let ((mut out, out_end), (_err, err_end)) =
            (pipe::pipe().expect("a pipe"), pipe::pipe().expect("a pipe"));
        let mut output_reader = OutputReader::new(out_end, err_end);
        let mut pieces = Vec::new();
        for _ in 0..20 {
            out.write_all(b"x").await.expect("written");
            pieces.push(output_reader.next(OUTPUT_MAX as u64).await.1);
        }
        // If a piece shared the buffer, its space could not be reclaimed.
        assert!(output_reader.gathered.is_empty() && output_reader.gathered.try_reclaim(OUTPUT_MAX));
        assert!(pieces.into_iter().all(|piece| piece == b"x"[..]));
    }

    #[tokio::test]
    async fn the_order_of_both_pipes_is_kept_and_nothing_is_lost() {
        let ((mut out, out_end), (mut err, err_end)) =
            (pipe::pipe().expect("a pipe"), pipe::pipe().expect("a pipe"));
        let mut output_reader = OutputReader::new(out_end, err_end);
        out.write_all(b"one").await.expect("written");
        assert_eq!(output_reader.next(100).await, (StreamKind::Out, Bytes::from_static(b"one")));
        err.write_all(b"two").await.expect("written");
        assert_eq!(output_reader.next(2).await, (StreamKind::Err, Bytes::from_static(b"tw")));
        out.write_all(b"three").await.expect("written");
        let mut rest = [output_reader.next(100).await, output_reader.next(100).await];
        rest.sort_by_key(|(stream, _)| *stream as u8);
        assert_eq!(
            rest,
            [(StreamKind::Out, Bytes::from_static(b"three")), (StreamKind::Err, Bytes::from_static(b"o"))]
        );
        drop((out, err));
        assert_eq!(output_reader.next(100).await.1, Bytes::new());
        assert!(output_reader.are_dry());
    }
}
