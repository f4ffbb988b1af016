//! The receiving end of standard input: joins chunks by their offset, and tells the caller how much
//! more the command can take.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use tokio::net::unix::pipe::Sender;

use crate::protocol::frame::Want;

/// How far a caller may be ahead of the command, in bytes.
const WINDOW: u64 = 256 * 1024;

#[derive(Debug)]
pub(super) struct Stdin {
    pipe: Option<Sender>,
    waiting: VecDeque<Bytes>,
    received: u64,
    written: u64,
    granted: u64,
    ended: bool,
    /// From where a caller was asked to send again: once a hole, as everything that was on its way
    /// behind it shows the same one. When that word is lost the caller sends again by its clock.
    asked_from: Option<u64>,
    /// Whether the command may still read: it was not started yet, or its pipe is open.
    open: bool,
}

impl Stdin {
    /// For a job that reads nothing.
    pub(super) fn closed() -> Self {
        Self { open: false, ..Self::expected() }
    }

    /// For a job whose process is being made.
    pub(super) fn expected() -> Self {
        Self {
            pipe: None,
            waiting: VecDeque::new(),
            received: 0,
            written: 0,
            granted: 0,
            ended: false,
            asked_from: None,
            open: true,
        }
    }

    /// The process is there. Its end of input may have come before it.
    pub(super) fn connect(&mut self, pipe: Sender) {
        self.pipe = Some(pipe);
        self.close_when_written();
    }

    /// Bytes received without a hole.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// What the caller should know now.
    pub(super) fn want(&mut self) -> Want {
        self.granted = self.written + WINDOW;
        let closed = !self.open || self.ended;
        Want { received: self.received, limit: self.granted, again: false, closed }
    }

    /// Whether so much was written since the last word that the caller should know.
    pub(super) fn want_is_due(&self) -> bool {
        self.open && !self.ended && self.written + WINDOW >= self.granted + WINDOW / 4
    }

    /// Takes a chunk, an empty one is the end, and writes what the command can take. Returns what to tell the
    /// caller: after that writing, because where all of it was written at once nothing tells of it later, and a
    /// caller that had used up its grant would wait for ever.
    pub(super) fn take(&mut self, offset: u64, bytes: &Bytes) -> Want {
        let hole = offset > self.received;
        if self.open && !self.ended && !hole {
            self.join(offset, bytes);
        }
        let again = hole && self.open && !self.ended && self.asked_from != Some(self.received);
        if again {
            self.asked_from = Some(self.received);
        }
        self.write();
        Want { again, ..self.want() }
    }

    fn join(&mut self, offset: u64, bytes: &Bytes) {
        if bytes.is_empty() {
            self.ended |= offset == self.received;
        }
        let known = usize::try_from(self.received - offset).unwrap_or(usize::MAX).min(bytes.len());
        let room = usize::try_from(self.written + WINDOW - self.received).unwrap_or_default();
        let fresh = bytes.slice(known..);
        // What goes beyond the grant is not taken; the caller sends it when it may.
        let fresh = fresh.slice(..fresh.len().min(room));
        if !fresh.is_empty() {
            self.received += fresh.len() as u64;
            // A copy, so that a few fresh bytes do not keep a whole message in memory.
            self.waiting.push_back(Bytes::copy_from_slice(&fresh));
        }
        self.close_when_written();
    }

    fn close_when_written(&mut self) {
        if self.ended && self.waiting.is_empty() && self.pipe.is_some() {
            self.pipe = None;
            self.open = false;
        }
    }

    /// Waits until something that waits can be written to the command. Cancel safe.
    pub(super) async fn writable(&self) {
        match &self.pipe {
            Some(pipe) if !self.waiting.is_empty() => drop(pipe.writable().await),
            _ => std::future::pending().await,
        }
    }

    /// Writes what the command can take.
    pub(super) fn write(&mut self) {
        while let (Some(pipe), Some(first)) = (&self.pipe, self.waiting.front_mut()) {
            match pipe.try_write(first) {
                Ok(count) => {
                    self.written += count as u64;
                    *first = first.slice(count..);
                    if first.is_empty() {
                        self.waiting.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The command has closed its standard input, as `head` does; the rest is not wanted.
                Err(_) => return self.close(),
            }
        }
        self.close_when_written();
    }

    /// Nothing more is wanted.
    pub(super) fn close(&mut self) {
        self.pipe = None;
        self.open = false;
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_dropped_and_holes_are_asked_for() {
        let mut stdin = Stdin::expected();
        assert_eq!(stdin.take(0, &Bytes::from_static(b"abc")).received, 3);
        let want = stdin.take(5, &Bytes::from_static(b"fg"));
        assert!(want.again && want.received == 3);
        let want = stdin.take(1, &Bytes::from_static(b"bcde"));
        assert!(!want.again && want.received == 5);
        assert!(!stdin.take(4, &Bytes::new()).closed, "an end before the end is none");
        assert!(stdin.take(5, &Bytes::new()).closed);
        assert_eq!(stdin.take(5, &Bytes::from_static(b"late")).received, 5);
        assert_eq!(stdin.waiting.iter().map(Bytes::len).sum::<usize>(), 5);
    }

    #[tokio::test]
    async fn an_end_that_comes_before_the_process_closes_its_input() {
        let (pipe, _reader) = tokio::net::unix::pipe::pipe().expect("a pipe");
        let mut stdin = Stdin::expected();
        assert!(stdin.take(0, &Bytes::new()).closed);
        stdin.connect(pipe);
        assert!(stdin.pipe.is_none(), "the command would wait for ever for the end of its input");
    }

    /// Nothing waits afterwards, so there is no later occasion to tell the caller.
    #[tokio::test]
    async fn a_grant_counts_what_was_written_at_once() {
        let (pipe, _reader) = tokio::net::unix::pipe::pipe().expect("a pipe");
        pipe.writable().await.expect("an empty pipe takes something");
        let mut stdin = Stdin::expected();
        stdin.connect(pipe);
        let chunk = Bytes::from(vec![7; 4096]);
        let want = stdin.take(0, &chunk);
        assert!(stdin.waiting.is_empty(), "the pipe has taken it");
        assert_eq!((want.received, want.limit), (4096, WINDOW + 4096));
    }

    #[test]
    fn a_hole_is_asked_for_once() {
        let mut stdin = Stdin::expected();
        let chunk = Bytes::from_static(b"x");
        let asked = (1..100).filter(|offset| stdin.take(*offset, &chunk).again).count();
        assert_eq!(asked, 1, "each would have everything sent again");
        stdin.take(0, &chunk);
        assert!(stdin.take(5, &chunk).again, "another hole");
    }

    #[test]
    fn a_fresh_byte_does_not_keep_its_message() {
        let mut stdin = Stdin::expected();
        let message = Bytes::from(vec![7; 1000]);
        stdin.take(0, &message.slice(..999));
        stdin.take(0, &message);
        assert!(message.is_unique(), "nothing else holds on to the message");
    }

    #[test]
    fn nothing_beyond_the_grant_is_taken() {
        let mut stdin = Stdin::expected();
        let much = Bytes::from(vec![7; 300 * 1024]);
        assert_eq!(stdin.take(0, &much).received, WINDOW);
    }
}
