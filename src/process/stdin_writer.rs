//! Writes a command's stdin without blocking.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures::FutureExt;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

/// The queued input of a command, with its writers. The owner limits its length.
#[derive(Debug)]
pub struct StdinWriter<Writer> {
    pipe: Option<Sender>,
    waiting: VecDeque<(Writer, Bytes)>,
    /// Whether end of input is queued.
    ended: bool,
    /// Whether the command may still read: it has not started yet, or its pipe is open.
    open: bool,
}

impl<Writer> StdinWriter<Writer> {
    /// For a command without stdin.
    #[must_use]
    pub fn closed() -> Self {
        Self { open: false, ..Self::expected() }
    }

    /// For a command whose process is being started.
    #[must_use]
    pub fn expected() -> Self {
        Self { pipe: None, waiting: VecDeque::new(), ended: false, open: true }
    }

    /// Sets the pipe of the started process. End of input may have been queued before.
    pub fn connect(&mut self, pipe: Sender) {
        self.pipe = Some(pipe);
        self.close_when_written();
    }

    /// Whether the command may still read.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Queued bytes.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Queues input.
    pub fn push(&mut self, writer: Writer, bytes: Bytes) {
        if self.open && !self.ended && !bytes.is_empty() {
            self.waiting.push_back((writer, bytes));
        }
    }

    /// Queues end of input: the pipe closes after the queued bytes.
    pub fn end(&mut self) {
        self.ended = true;
        self.close_when_written();
    }

    fn close_when_written(&mut self) {
        if self.ended && self.waiting.is_empty() && self.pipe.is_some() {
            self.close();
        }
    }

    /// Waits until queued bytes can be written. Cancel safe.
    pub async fn writable(&self) {
        match &self.pipe {
            Some(pipe) if !self.waiting.is_empty() => drop(pipe.writable().await),
            _ => std::future::pending().await,
        }
    }

    /// Writes as much as the command reads. Reports the number of bytes per writer to `wrote`.
    pub fn write(&mut self, mut wrote: impl FnMut(&Writer, u64)) {
        while let (Some(pipe), Some((writer, first))) = (&self.pipe, self.waiting.front_mut()) {
            match pipe.try_write(first) {
                Ok(count) => {
                    wrote(writer, count as u64);
                    *first = first.slice(count..);
                    if first.is_empty() {
                        self.waiting.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !is_hung_up(pipe) => return,
                // The command has closed its stdin, like `head`; the rest is not needed.
                Err(_) => return self.close(),
            }
        }
        self.close_when_written();
    }

    /// Closes stdin and discards queued input.
    pub fn close(&mut self) {
        self.pipe = None;
        self.open = false;
        self.waiting.clear();
    }
}

/// Whether nobody holds the other end any more. This readiness is permanent. Without this check, a full
/// terminal that was hung up would cause an endless loop of writes, because the kernel only reports EAGAIN.
fn is_hung_up(pipe: &Sender) -> bool {
    pipe.ready(Interest::WRITABLE)
        .now_or_never()
        .is_some_and(|ready| ready.map_or(true, |ready| ready.is_write_closed()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Terminal;
    use peerbus_protocol::TtySize;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn an_end_that_comes_before_the_process_closes_its_input() {
        let (pipe, mut reader) = tokio::net::unix::pipe::pipe().expect("a pipe");
        let mut feed = StdinWriter::expected();
        feed.push("ann", Bytes::from_static(b"abc"));
        feed.end();
        feed.push("bob", Bytes::from_static(b"late"));
        feed.connect(pipe);
        let mut written = Vec::new();
        feed.writable().await;
        feed.write(|writer, count| written.push((*writer, count)));
        assert!(!feed.is_open(), "the command would wait for ever for the end of its input");
        assert_eq!(written, [("ann", 3)]);
        let mut text = String::new();
        reader.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "abc");
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_written_to() {
        let (pipe, reader) = tokio::net::unix::pipe::pipe().expect("a pipe");
        let mut feed = StdinWriter::expected();
        feed.connect(pipe);
        drop(reader);
        feed.push((), Bytes::from_static(b"abc"));
        feed.writable().await;
        feed.write(|(), _| ());
        assert!(!feed.is_open());
    }

    #[tokio::test]
    async fn a_full_terminal_that_is_hung_up_is_closed() {
        let (terminal, theirs) = Terminal::open(TtySize::USUAL).expect("a terminal");
        let (pipe, _shown) = terminal.pipes().expect("its pipes");
        let mut feed = StdinWriter::expected();
        feed.connect(pipe);
        feed.push((), Bytes::from(b"a line\n".repeat(100_000)));
        // Fill the terminal completely: nobody reads, and the kernel echoes asynchronously.
        while tokio::time::timeout(Duration::from_millis(200), feed.writable()).await.is_ok() {
            feed.write(|(), _| ());
        }
        assert!(feed.is_open() && feed.waiting() > 0, "it took all of it");
        drop(theirs);
        for tries in 0.. {
            if !feed.is_open() {
                break;
            }
            assert!(tries < 1_000, "it is tried for ever");
            let hung_up = tokio::time::timeout(Duration::from_secs(30), feed.writable());
            hung_up.await.expect("word of the hang-up");
            feed.write(|(), _| ());
        }
    }
}
