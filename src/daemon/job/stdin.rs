//! Standard input of one job: joined from its caller's chunks, and fed to its command.

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
    /// For a job that reads nothing.
    pub(super) fn closed() -> Self {
        let mut stdin = Self::expected();
        stdin.close();
        stdin
    }

    /// For a job whose process is being made.
    pub(super) fn expected() -> Self {
        Self { joined: StdinReassembler::expected(WINDOW), feed: StdinWriter::expected() }
    }

    /// The process is there.
    pub(super) fn connect(&mut self, pipe: Sender) {
        self.feed.connect(pipe);
        self.close_with_the_pipe();
    }

    /// Bytes received without a hole.
    pub(super) fn received(&self) -> u64 {
        self.joined.received()
    }

    /// What the caller should know now.
    pub(super) fn want(&mut self) -> StdinCredit {
        self.joined.want()
    }

    /// Whether so much was written since the last word that the caller should know.
    pub(super) fn want_is_due(&self) -> bool {
        self.joined.want_is_due()
    }

    /// Takes a chunk, an empty one is the end, and writes what the command can take. Returns what to tell the
    /// caller: after that writing, because where all of it was written at once nothing tells of it later, and a
    /// caller that had used up its grant would wait for ever.
    pub(super) fn take(&mut self, offset: u64, bytes: &Bytes) -> StdinCredit {
        let (fresh, StdinCredit { again, .. }) = self.joined.take(offset, bytes);
        self.feed.push((), fresh);
        if self.joined.has_ended() {
            self.feed.end();
        }
        self.write();
        StdinCredit { again, ..self.joined.want() }
    }

    /// Waits until something that waits can be written to the command. Cancel safe.
    pub(super) async fn writable(&self) {
        self.feed.writable().await;
    }

    /// Writes what the command can take.
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

    /// Nothing more is wanted.
    pub(super) fn close(&mut self) {
        self.feed.close();
        self.joined.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing waits afterwards, so there is no later occasion to tell the caller.
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
