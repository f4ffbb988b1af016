//! Verifies the hash chain of an audit log, line by line.
//!
//! Each line contains the hash of the previous one, so a changed, removed, inserted or moved line
//! breaks the chain at its position. The chain alone cannot reveal cuts at its ends. *Heads*,
//! checkpoints stored elsewhere, reveal lines cut off at the end. The first line of the newest file
//! states the oldest line, and so reveals lines cut off at the beginning.
//!
//! Limit: whoever can write the log and all its heads can forge a consistent log.

use serde::Deserialize;

use super::{AuditEvent, Checkpoint, LineHash};
use crate::decode;

/// Most faults reported one by one.
const TOLD: usize = 20;

/// The fields of a line in every version.
#[derive(Deserialize)]
struct Link {
    seq: u64,
    prev: LineHash,
    #[serde(default)]
    at: String,
    #[serde(flatten)]
    event: Option<AuditEvent>,
}

/// A head, and where it is stored.
#[derive(Debug, Clone)]
struct Mark {
    kept_by: String,
    head: Checkpoint,
    met: bool,
}

/// A running verification.
#[derive(Debug, Default)]
pub struct Chain {
    first: Option<u64>,
    last: Option<Checkpoint>,
    /// The oldest line, as the newest file states it.
    oldest: Option<u64>,
    lines: u64,
    marks: Vec<Mark>,
    faults: Vec<String>,
    more_faults: u64,
    notes: Vec<String>,
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Number of lines.
    pub lines: u64,
    /// The number of the first line.
    pub first: Option<u64>,
    /// The last line.
    pub last: Option<Checkpoint>,
    /// What is wrong, and where; empty for an intact log.
    pub faults: Vec<String>,
    /// How many further faults there are.
    pub more_faults: u64,
    /// Losses that the log itself reports, which are not faults.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Whether the log is intact.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

impl Chain {
    /// Adds a head: the log once reached `head`.
    pub fn went_to(&mut self, kept_by: &str, head: Checkpoint) {
        if head.seq > 0 {
            self.marks.push(Mark { kept_by: kept_by.to_owned(), head, met: false });
        }
    }

    /// Adds a fault found outside of the lines.
    pub fn fault(&mut self, what: String) {
        if self.faults.len() < TOLD {
            self.faults.push(what);
        } else {
            self.more_faults += 1;
        }
    }

    /// Adds a note that is not a fault.
    pub fn note(&mut self, what: String) {
        if self.notes.len() < TOLD {
            self.notes.push(what);
        }
    }

    /// The last line so far.
    #[must_use]
    pub fn last(&self) -> Option<&Checkpoint> {
        self.last.as_ref()
    }

    /// Verifies the next line, without its line end. `place` names it for people.
    pub fn line(&mut self, place: &str, line: &[u8]) {
        self.lines += 1;
        let link = decode::json::<Link>(line).ok();
        let seq = match &link {
            Some(link) => link.seq,
            None => {
                self.fault(format!("{place}: this is no line of an audit log"));
                self.last.as_ref().map_or(1, |last| last.seq.saturating_add(1))
            }
        };
        if let Some(link) = &link {
            self.compare(place, link);
            self.read(link);
        }
        let head = Checkpoint { seq, hash: LineHash::of(line) };
        self.meet(place, &head);
        self.first.get_or_insert(seq);
        self.last = Some(head);
    }

    /// Compares a line with the previous one.
    fn compare(&mut self, place: &str, link: &Link) {
        let Some(last) = self.last.clone() else {
            if link.seq == 1 && link.prev != LineHash::of_nothing() {
                self.fault(format!("{place}: the first line of all continues another"));
            }
            return;
        };
        let (seq, next) = (link.seq, last.seq.saturating_add(1));
        if seq == next {
            if link.prev != last.hash {
                self.fault(format!("{place}: line {seq} does not continue line {}: that was changed, or another stands in its place", last.seq));
            }
        } else if seq > next {
            self.fault(format!("{place}: {} missing", range(next, seq - 1)));
        } else {
            self.fault(format!("{place}: line {seq} stands after line {}", last.seq));
        }
    }

    /// Evaluates a line's statements about the log itself.
    fn read(&mut self, link: &Link) {
        let (seq, at) = (link.seq, &link.at);
        match &link.event {
            Some(AuditEvent::File { oldest, .. }) => self.oldest = Some(*oldest),
            Some(AuditEvent::Damaged { what }) => {
                self.fault(format!("line {seq}: the daemon itself found, at {at}: {what}"));
            }
            Some(AuditEvent::Healed { bytes, .. }) => {
                self.note(format!("line {seq}: half a line, {bytes} bytes, was cut off at {at}: a daemon was killed while it wrote"));
            }
            Some(AuditEvent::Gap { lost, first, last, why }) => {
                self.note(format!(
                    "line {seq}: {lost} of the lines before it could not be written, from {first} to {last}: {why}"
                ));
            }
            _ => {}
        }
    }

    /// Compares a line with the known heads.
    fn meet(&mut self, place: &str, head: &Checkpoint) {
        let met: Vec<(String, bool)> = self
            .marks
            .iter_mut()
            .filter(|mark| mark.head.seq == head.seq)
            .map(|mark| {
                mark.met = true;
                (mark.kept_by.clone(), mark.head.hash == head.hash)
            })
            .collect();
        for (kept_by, same) in met {
            if !same {
                self.fault(format!("{place}: line {} is not the one that {kept_by} knows", head.seq));
            }
        }
    }

    /// Ends the verification after the last line.
    #[must_use]
    pub fn finish(mut self) -> Verdict {
        let end = self.last.as_ref().map_or(0, |last| last.seq);
        if let Some(first) = self.first {
            let oldest = self.oldest.unwrap_or(1);
            if first > oldest {
                let gone = range(oldest, first - 1);
                self.fault(format!(
                    "at the begin: {gone} missing, and the log does not say that they were rotated out"
                ));
            }
        }
        for mark in std::mem::take(&mut self.marks) {
            let seq = mark.head.seq;
            if seq > end {
                let gone = range(end + 1, seq);
                self.fault(format!("at the end: {gone} missing, which {} knows of", mark.kept_by));
            } else if !mark.met && self.first.is_some_and(|first| seq >= first) {
                self.fault(format!("line {seq} is missing, which {} knows of", mark.kept_by));
            }
        }
        let Self { lines, first, last, faults, more_faults, notes, .. } = self;
        Verdict { lines, first, last, faults, more_faults, notes }
    }
}

fn range(from: u64, to: u64) -> String {
    if from == to { format!("line {from} is") } else { format!("lines {from} to {to} are") }
}

#[cfg(test)]
mod tests;
