//! Finds the start of the last lines of a job's output (`d logs -n`).
//!
//! Lines are counted over both outputs, in the order in which they arrived. The peer knows bytes
//! but no lines, so `d` reads the end of the output, and more of it until it has enough lines.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::exec::{Streams, conclude};
use crate::exit::CliError;
use crate::jobs::Found;
use peerbus_bus::Bus;
use peerbus_client::exec::{self as client, AttachOptions, Completion, Event, Timeouts};
use peerbus_protocol::attach::AttachFrom;
use peerbus_protocol::exec;

/// Bytes to read first, per line.
const LINE: u64 = 200;

/// Factor by which to read more if that was not enough.
const MORE: u64 = 16;

/// The combined offset at which the last lines before `end` begin.
pub(super) async fn begin(bus: &Bus, found: &Found, lines: usize, end: u64) -> Result<u64, CliError> {
    let mut span = LINE.saturating_mul(lines as u64 + 1);
    loop {
        let from = end.saturating_sub(span);
        let tail = read(bus, found, lines, from..end).await?;
        match tail.begin() {
            // This is everything, or everything that is kept.
            None if from == 0 || tail.first > from => return Ok(tail.first),
            None => span = span.saturating_mul(MORE),
            Some(begin) => return Ok(begin),
        }
    }
}

/// The line ends read so far.
struct LineTail {
    lines: usize,
    /// Offset of the first byte read.
    first: u64,
    /// Offsets after the last newlines: one more than the wanted lines.
    ends: VecDeque<u64>,
    /// Whether the output ends in an unfinished line.
    is_open: bool,
}

impl LineTail {
    fn see(&mut self, at: u64, bytes: &[u8]) {
        for (index, byte) in (at..).zip(bytes) {
            self.is_open = *byte != b'\n';
            if !self.is_open {
                self.ends.push_back(index + 1);
                if self.ends.len() > self.lines + 1 {
                    self.ends.pop_front();
                }
            }
        }
    }

    /// Start of the wanted lines; `None` if there are too few.
    fn begin(&self) -> Option<u64> {
        let ended = self.lines - usize::from(self.is_open && self.lines > 0);
        // The end of the line before the first wanted line.
        self.ends.iter().rev().nth(ended).copied()
    }
}

async fn read(bus: &Bus, found: &Found, lines: usize, range: Range<u64>) -> Result<LineTail, CliError> {
    let Found { peer, job } = found;
    let mut tail = LineTail { lines, first: range.start, ends: VecDeque::new(), is_open: false };
    if range.is_empty() {
        return Ok(tail);
    }
    let (_keys, nothing) = tokio::sync::mpsc::channel(1);
    let from = AttachFrom::Byte(range.start);
    // The view leaves before the end, where totals would verify completeness.
    let how = AttachOptions {
        from,
        window: exec::WINDOW,
        write: false,
        tty: None,
        sealed: true,
        within: Vec::new(),
    };
    let patience = Timeouts { absent: Duration::ZERO };
    let mut execution = client::attach(bus, peer.clone(), job.id, how, nothing, patience);
    let steering = execution.steering();
    while let Some(event) = execution.next().await {
        match event {
            Event::Accepted(accepted) => {
                tail.first = accepted.from.unwrap_or_default().sum().max(range.start);
            }
            Event::Output { stream, at, bytes } => {
                steering.wrote(stream, bytes.len());
                let wanted = usize::try_from(range.end.saturating_sub(at)).unwrap_or(usize::MAX);
                tail.see(at, &bytes[..wanted.min(bytes.len())]);
                if at + bytes.len() as u64 >= range.end {
                    steering.detach();
                }
            }
            Event::Ended(outcome) if outcome.result.is_none() => return Err(failure(found, &outcome)),
            Event::Ended(_) | Event::Detached { .. } => break,
            _ => {}
        }
    }
    Ok(tail)
}

/// The error for output that could not be read.
fn failure(found: &Found, outcome: &Completion) -> CliError {
    match conclude(&found.peer, found.job.id, outcome, &Streams::default(), true) {
        Ok(code) => CliError::new(code, outcome.ending.to_string()),
        Err(failure) => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(lines: usize, first: u64, text: &str) -> Option<u64> {
        let mut tail = LineTail { lines, first, ends: VecDeque::new(), is_open: false };
        for (at, piece) in (first..).step_by(2).zip(text.as_bytes().chunks(2)) {
            tail.see(at, piece);
        }
        tail.begin()
    }

    #[test]
    fn lines_are_counted_from_the_end() {
        assert_eq!(begin(1, 0, "one\ntwo\n"), Some(4));
        assert_eq!(begin(1, 0, "one\ntwo"), Some(4));
        assert_eq!(begin(2, 0, "one\ntwo\n"), None);
        assert_eq!(begin(2, 100, "rest\none\n\n"), Some(105));
        assert_eq!(begin(0, 0, "one\ntwo\n"), Some(8));
        assert_eq!(begin(3, 0, ""), None);
    }
}
