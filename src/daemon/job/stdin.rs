//! Standard input of one job: reassembled from the caller's chunks and written to the command.

use bytes::Bytes;
use tokio::net::unix::pipe::Sender;

use peerbus_process::StdinWriter;
use peerbus_protocol::frame::StdinCredit;
use peerbus_protocol::stdin::{StdinReassembler, WINDOW};

#[derive(Debug)]
pub(super) struct Stdin {
    joined: StdinReassembler,
    feed: StdinWriter<()>,
}

impl Stdin {
    /// For a job without input.
    pub(super) fn closed() -> Self {
        let mut stdin = Self::expected();
        stdin.close();
        stdin
    }

    /// For a job whose process is starting.
    pub(super) fn expected() -> Self {
        Self { joined: StdinReassembler::expected(WINDOW), feed: StdinWriter::expected() }
    }

    /// Connects the pipe of the started process.
    pub(super) fn connect(&mut self, pipe: Sender) {
        self.feed.connect(pipe);
        self.close_with_the_pipe();
    }

    /// Contiguous bytes received.
    pub(super) fn received(&self) -> u64 {
        self.joined.received()
    }

    /// The credit to report to the caller now.
    pub(super) fn want(&mut self) -> StdinCredit {
        self.joined.want()
    }

    /// Whether enough was written since the last report to send new credit.
    pub(super) fn want_is_due(&self) -> bool {
        self.joined.want_is_due()
    }

    /// Takes a chunk and writes as much as the command accepts. An empty chunk is the end of input. Returns the
    /// credit to report. It is computed after the write: if everything was written at once, no later event would
    /// report it, and a caller that had used up its credit would wait forever.
    pub(super) fn take(&mut self, offset: u64, bytes: &Bytes) -> StdinCredit {
        let (fresh, StdinCredit { again, .. }) = self.joined.take(offset, bytes);
        self.feed.push((), fresh);
        if self.joined.has_ended() {
            self.feed.end();
        }
        self.write();
        StdinCredit { again, ..self.joined.want() }
    }

    /// Waits until buffered input can be written to the command. Cancel safe.
    pub(super) async fn writable(&self) {
        self.feed.writable().await;
    }

    /// Writes as much as the command accepts.
    pub(super) fn write(&mut self) {
        let joined = &mut self.joined;
        self.feed.write(|(), count| joined.wrote(count));
        self.close_with_the_pipe();
    }

    fn close_with_the_pipe(&mut self) {
        if !self.feed.is_open() {
            self.joined.close();
        }
    }

    /// Closes the input: the job accepts no more.
    pub(super) fn close(&mut self) {
        self.feed.close();
        self.joined.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is buffered afterwards, so no later event would report the credit.
    #[tokio::test]
    async fn a_grant_counts_what_was_written_at_once() {
        let (pipe, _reader) = tokio::net::unix::pipe::pipe().expect("a pipe");
        pipe.writable().await.expect("an empty pipe takes something");
        let mut stdin = Stdin::expected();
        stdin.connect(pipe);
        let chunk = Bytes::from(vec![7; 4096]);
        let want = stdin.take(0, &chunk);
        assert_eq!((want.received, want.limit), (4096, WINDOW + 4096));
    }
}
