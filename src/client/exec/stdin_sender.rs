//! The sender of standard input, as pure rules.
//!
//! It holds what was read locally until the peer acknowledges it, and reads no more than the peer
//! grants. So the remote command slows down the local pipe, and a lost chunk can be sent again.

use std::collections::VecDeque;

use bytes::Bytes;

use peerbus_protocol::frame::{OUTPUT_MAX, StdinCredit};

#[derive(Debug, Default)]
pub(super) struct StdinSender {
    /// Offset of the first held byte.
    base: u64,
    held: VecDeque<Bytes>,
    held_bytes: u64,
    /// Offset of the next byte to send.
    next: u64,
    limit: u64,
    ended: bool,
    end_sent: bool,
    closed: bool,
}

impl StdinSender {
    /// Whether it may read more locally.
    pub(super) fn has_room(&self) -> bool {
        !self.ended && !self.closed && self.base + self.held_bytes < self.limit
    }

    /// Takes a chunk read locally; `None` means end of file.
    pub(super) fn push(&mut self, bytes: Option<Bytes>) {
        match bytes {
            Some(bytes) if bytes.is_empty() => {}
            Some(bytes) => {
                self.held_bytes += bytes.len() as u64;
                self.held.push_back(bytes);
            }
            None => self.ended = true,
        }
    }

    /// The next chunk to send, with its offset; an empty chunk means end of file. `most` is the most
    /// bytes that the server accepts.
    pub(super) fn next_chunk(&mut self, most: usize) -> Option<(u64, Bytes)> {
        if self.closed {
            return None;
        }
        let offset = self.next;
        let end = self.base + self.held_bytes;
        if offset < end.min(self.limit) {
            let granted = usize::try_from(self.limit - offset).unwrap_or(OUTPUT_MAX);
            let most = most.clamp(1, OUTPUT_MAX).min(granted);
            let bytes = self.at(offset, most);
            self.next += bytes.len() as u64;
            return Some((offset, bytes));
        }
        if self.ended && offset == end && !self.end_sent {
            self.end_sent = true;
            return Some((offset, Bytes::new()));
        }
        None
    }

    fn at(&self, offset: u64, most: usize) -> Bytes {
        let mut start = self.base;
        for piece in &self.held {
            let end = start + piece.len() as u64;
            if offset < end {
                let from = usize::try_from(offset - start).unwrap_or_default();
                return piece.slice(from..piece.len().min(from + most));
            }
            start = end;
        }
        Bytes::new()
    }

    /// Applies the peer's credit. Returns whether the peer received anything new.
    pub(super) fn want(&mut self, want: &StdinCredit) -> bool {
        self.limit = self.limit.max(want.limit);
        self.closed |= want.closed;
        let moved = self.release(want.received) || want.closed;
        if want.again {
            self.rewind();
        }
        moved
    }

    /// Frees what the peer has received.
    pub(super) fn release(&mut self, received: u64) -> bool {
        let received = received.min(self.base + self.held_bytes);
        let moved = received > self.base;
        while let Some(first) = self.held.front_mut() {
            let known = received.saturating_sub(self.base);
            if known == 0 {
                break;
            }
            if known >= first.len() as u64 {
                self.base += first.len() as u64;
                self.held_bytes -= first.len() as u64;
                self.held.pop_front();
            } else {
                *first = first.slice(usize::try_from(known).unwrap_or_default()..);
                self.base += known;
                self.held_bytes -= known;
            }
        }
        self.next = self.next.max(self.base);
        moved
    }

    /// Restarts sending at the first unacknowledged byte.
    pub(super) fn rewind(&mut self) {
        self.next = self.base;
        self.end_sent = false;
    }

    /// Whether anything sent is unacknowledged.
    pub(super) fn is_unconfirmed(&self) -> bool {
        !self.closed && (self.next > self.base || self.end_sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(received: u64, limit: u64) -> StdinCredit {
        StdinCredit { received, limit, again: false, closed: false }
    }

    #[test]
    fn nothing_is_taken_before_it_is_wanted() {
        let mut feed = StdinSender::default();
        assert!(!feed.has_room());
        feed.want(&want(0, 4));
        assert!(feed.has_room());
        feed.push(Some(Bytes::from_static(b"abcdef")));
        assert!(!feed.has_room());
        assert_eq!(feed.next_chunk(OUTPUT_MAX), Some((0, Bytes::from_static(b"abcd"))));
        assert_eq!(feed.next_chunk(OUTPUT_MAX), None);
        feed.want(&want(4, 8));
        assert_eq!(feed.next_chunk(OUTPUT_MAX), Some((4, Bytes::from_static(b"ef"))));
    }

    #[test]
    fn the_end_has_an_offset_and_can_be_sent_again() {
        let mut feed = StdinSender::default();
        feed.want(&want(0, 100));
        feed.push(Some(Bytes::from_static(b"ab")));
        feed.push(None);
        assert_eq!(feed.next_chunk(OUTPUT_MAX), Some((0, Bytes::from_static(b"ab"))));
        assert_eq!(feed.next_chunk(OUTPUT_MAX), Some((2, Bytes::new())));
        assert_eq!(feed.next_chunk(OUTPUT_MAX), None);
        assert!(feed.is_unconfirmed());
        feed.want(&StdinCredit { again: true, ..want(1, 100) });
        assert_eq!(feed.next_chunk(OUTPUT_MAX), Some((1, Bytes::from_static(b"b"))));
        assert_eq!(feed.next_chunk(OUTPUT_MAX), Some((2, Bytes::new())));
        feed.want(&StdinCredit { closed: true, ..want(2, 100) });
        assert!(!feed.has_room() && !feed.is_unconfirmed());
    }
}
