//! The answer to a plain request: one JSON object that never exceeds the server's limit.
//!
//! Output that is too long loses its middle, and the answer states how much: the beginning shows what
//! ran, and the end shows how it went. Cuts never split a character.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::decode;
use super::exec::{Collected, JobResult, Truncated};
use super::frame::StreamKind;

/// Header of an error answer: the error code, a fixed word.
pub const ERROR_HEADER: &str = "Nats-Service-Error";
/// Header of an error answer: a number, as in HTTP.
pub const ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";
/// The `type` of an error's body.
pub const ERROR_TYPE: &str = "peerbus.error.v1";

/// The body of an error.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ErrorBody {
    /// Always [`ERROR_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The error code, as in the header.
    pub error: String,
    /// The error message.
    pub message: String,
    /// The job, if the request got an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<super::JobId>,
    /// The ending, if the error is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<super::Ending>,
}

impl ErrorBody {
    /// An error with its message.
    #[must_use]
    pub fn new(error: &str, message: impl Into<String>) -> Self {
        Self {
            kind: ERROR_TYPE.to_owned(),
            error: error.to_owned(),
            message: message.into(),
            id: None,
            ending: None,
        }
    }
}

/// Collects one stream: its beginning, its end, and the number of bytes between.
#[derive(Debug)]
pub struct Collector {
    half: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    cut: u64,
}

impl Collector {
    /// Keeps at most `most` bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { half: most / 2, head: Vec::new(), tail: VecDeque::new(), cut: 0 }
    }

    /// Adds output of the command.
    pub fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..over);
        self.cut += over as u64;
    }

    /// All kept bytes, and how many bytes are missing at the given position.
    fn finish(self) -> Kept {
        let middle = self.head.len();
        let mut bytes = self.head;
        bytes.extend(self.tail);
        Kept { bytes, middle, cut: self.cut }
    }
}

#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    middle: usize,
    cut: u64,
}

impl Kept {
    /// Cuts more of the middle, so that at most `most` bytes remain, without splitting a character.
    fn shrink(&mut self, most: usize) {
        let excess = self.bytes.len().saturating_sub(most);
        if excess == 0 && self.cut == 0 {
            return;
        }
        let mut from = self.middle.saturating_sub(excess.div_ceil(2));
        let mut to = (from + excess).min(self.bytes.len());
        while from > 0 && is_continuation(self.bytes.get(from)) && self.middle - from < 4 + excess {
            from -= 1;
        }
        while is_continuation(self.bytes.get(to)) && to - from < excess + 8 {
            to += 1;
        }
        self.cut += (to - from) as u64;
        self.bytes.drain(from..to);
        self.middle = from;
    }
}

fn is_continuation(byte: Option<&u8>) -> bool {
    byte.is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000)
}

/// Encodes a result with its output, cut so that the whole message has at most `limit` bytes.
#[must_use]
pub fn fitted(mut result: JobResult, out: Collector, err: Collector, limit: usize) -> Vec<u8> {
    let (mut out, mut err) = (out.finish(), err.finish());
    let mut room = limit;
    loop {
        let share = fair_share(out.bytes.len(), err.bytes.len(), room);
        out.shrink(share.0);
        err.shrink(share.1);
        result.collected = Some(collected(&out, &err));
        let message = decode::to_json(&result);
        if message.len() <= limit || room == 0 {
            return message;
        }
        // Escapes and base64 expand the text at most sixfold: shrink it in proportion, and check again.
        let kept = out.bytes.len() + err.bytes.len();
        room = kept.saturating_mul(limit) / message.len().max(1);
        room = room.min(kept.saturating_sub(1));
    }
}

/// Splits the room in halves; a stream that needs less leaves the rest to the other.
fn fair_share(out: usize, err: usize, room: usize) -> (usize, usize) {
    let half = room / 2;
    if err <= half {
        (room - err, err)
    } else if out <= half {
        (out, room - out)
    } else {
        (half, half)
    }
}

fn collected(out: &Kept, err: &Kept) -> Collected {
    let (stdout, stdout_b64) = text_or_base64(&out.bytes);
    let (stderr, stderr_b64) = text_or_base64(&err.bytes);
    let truncated = Truncated { stdout: out.cut, stderr: err.cut };
    Collected { stdout, stdout_b64, stderr, stderr_b64, truncated }
}

fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// The collectors of both streams.
#[derive(Debug)]
pub struct Collectors {
    /// stdout.
    pub out: Collector,
    /// stderr.
    pub err: Collector,
}

impl Collectors {
    /// Keeps at most `most` bytes of each.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { out: Collector::new(most), err: Collector::new(most) }
    }

    /// Takes the contents, leaving empty collectors.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(0))
    }

    /// Adds output of the command.
    pub fn push(&mut self, stream: StreamKind, bytes: &[u8]) {
        match stream {
            StreamKind::Out => self.out.push(bytes),
            StreamKind::Err => self.err.push(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ending, Instance, JobId};
    use proptest::prelude::*;

    fn answer(out: &[u8], err: &[u8], limit: usize) -> (Vec<u8>, Collected) {
        let peer = "w1".parse().expect("valid");
        let result = JobResult::bare(Some(JobId::new()), peer, Instance::new(), Ending::Exited { code: 0 });
        let mut both = Collectors::new(limit);
        out.chunks(7).for_each(|piece| both.push(StreamKind::Out, piece));
        err.chunks(3).for_each(|piece| both.push(StreamKind::Err, piece));
        let message = fitted(result, both.out, both.err, limit);
        let result: JobResult = serde_json::from_slice(&message).expect("valid JSON");
        (message, result.collected.expect("output"))
    }

    #[test]
    fn short_output_is_whole() {
        let (_, got) = answer("grüße\n".as_bytes(), b"\xff\x00", 4096);
        assert_eq!(got.stdout.as_deref(), Some("grüße\n"));
        assert_eq!(got.stderr_b64.as_deref(), Some("/wA="));
        assert_eq!(got.truncated, Truncated::default());
    }

    #[test]
    fn long_text_stays_text_and_loses_its_middle() {
        let text = format!("begin {} end", "ü€😀".repeat(10_000));
        let (message, got) = answer(text.as_bytes(), b"", 8192);
        let stdout = got.stdout.expect("still text");
        assert!(stdout.starts_with("begin ") && stdout.ends_with(" end"));
        assert_eq!(stdout.len() as u64 + got.truncated.stdout, text.len() as u64);
        assert!(message.len() <= 8192 && message.len() > 6000, "{}", message.len());
    }

    proptest! {
        #[test]
        fn an_answer_always_fits_and_always_adds_up(
            out in proptest::collection::vec(any::<u8>(), 0..6000),
            err in "\\PC{0,2000}|[\u{0}-\u{20}]{0,2000}",
            limit in 1500_usize..5000,
        ) {
            let (message, got) = answer(&out, err.as_bytes(), limit);
            prop_assert!(message.len() <= limit);
            let length = |text: &Option<String>, b64: &Option<String>| match (text, b64) {
                (Some(text), None) => text.len(),
                (None, Some(b64)) => STANDARD.decode(b64).expect("base64").len(),
                _ => panic!("exactly one of both"),
            };
            prop_assert_eq!(length(&got.stdout, &got.stdout_b64) as u64 + got.truncated.stdout, out.len() as u64);
            prop_assert_eq!(length(&got.stderr, &got.stderr_b64) as u64 + got.truncated.stderr, err.len() as u64);
            prop_assert!(got.stderr.is_some(), "valid text stays text");
        }
    }
}
