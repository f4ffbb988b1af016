//! The sender of a job's output stream, as pure rules: what it holds, what it may send, in which order.
//!
//! ```text
//!   read from the pipes ──► held chunks, in read order ──► frames of the current epoch
//!                            ▲ freed when acknowledged       ▲ restart at a resume
//! ```
//! Guarantees: the buffer holds every byte until a credit acknowledges it or [`SendBuffer::give_up`] is
//! called. Frames of an epoch are numbered without gaps. `result` and `end` follow all output. The
//! buffer accepts no more than the caller granted, and holds at most the smaller of the caller's window
//! and [`HELD_MAX`].

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::control::{Credit, FRAMES_IN_FLIGHT, Resume};
use super::frame::{FrameKind, Gap, OUTPUT_MAX, StreamKind};

/// Most bytes held for one job, even if its caller grants a larger window.
pub const HELD_MAX: u64 = 4 << 20;

/// A byte offset in each of the two streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StreamOffsets {
    /// stdout.
    pub out: u64,
    /// stderr.
    pub err: u64,
}

impl StreamOffsets {
    /// The sum of both offsets.
    #[must_use]
    pub fn sum(self) -> u64 {
        self.out.saturating_add(self.err)
    }

    /// The offset of one stream.
    #[must_use]
    pub fn of(self, stream: StreamKind) -> u64 {
        match stream {
            StreamKind::Out => self.out,
            StreamKind::Err => self.err,
        }
    }

    /// The offset of one stream, mutable.
    pub fn of_mut(&mut self, stream: StreamKind) -> &mut u64 {
        match stream {
            StreamKind::Out => &mut self.out,
            StreamKind::Err => &mut self.err,
        }
    }
}

/// A frame, ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its epoch.
    pub epoch: u64,
    /// Its number within the epoch.
    pub seq: u64,
    /// Its kind.
    pub kind: FrameKind,
    /// For output: the stream offset of its first byte.
    pub offset: Option<u64>,
    /// Its payload.
    pub payload: Bytes,
}

#[derive(Debug, Clone)]
struct Chunk {
    stream: StreamKind,
    offset: u64,
    bytes: Bytes,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// The sender of one stream.
#[derive(Debug)]
pub struct SendBuffer {
    epoch: u64,
    next_seq: u64,
    frames: u64,
    limit: u64,
    chunks: VecDeque<Chunk>,
    /// How many chunks at the front of `chunks` were sent in this epoch.
    sent: usize,
    read: StreamOffsets,
    acknowledged: StreamOffsets,
    /// The buffer freed the bytes before these offsets without an acknowledgement.
    given_up: StreamOffsets,
    control: VecDeque<(FrameKind, Bytes)>,
    closing: Option<Bytes>,
    /// How many of the closing frames, `result` and `end`, were sent in this epoch.
    closed: u8,
}

impl SendBuffer {
    /// Starts with the window of the request.
    #[must_use]
    pub fn new(window: u64) -> Self {
        Self {
            epoch: 1,
            next_seq: 1,
            frames: FRAMES_IN_FLIGHT,
            limit: window,
            chunks: VecDeque::new(),
            sent: 0,
            read: StreamOffsets::default(),
            acknowledged: StreamOffsets::default(),
            given_up: StreamOffsets::default(),
            control: VecDeque::new(),
            closing: None,
            closed: 0,
        }
    }

    /// Starts in the middle, at the offsets already received, in a new epoch. It may send `window` more
    /// bytes before the first credit.
    #[must_use]
    pub fn beginning_at(epoch: u64, received: StreamOffsets, window: u64) -> Self {
        let limit = received.sum().saturating_add(window);
        Self { epoch, limit, read: received, acknowledged: received, given_up: received, ..Self::new(window) }
    }

    /// The current epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Bytes read from the command so far.
    #[must_use]
    pub fn read(&self) -> StreamOffsets {
        self.read
    }

    /// Whether the caller acknowledged everything read.
    #[must_use]
    pub fn all_acknowledged(&self) -> bool {
        self.acknowledged == self.read
    }

    /// How many bytes the job may read from the command now.
    #[must_use]
    pub fn room(&self) -> u64 {
        let unsent = (self.chunks.len() - self.sent) as u64;
        if self.next_seq + unsent > self.frames {
            return 0;
        }
        let held = self.read.sum() - self.acknowledged.sum();
        self.limit.saturating_sub(self.read.sum()).min(HELD_MAX.saturating_sub(held))
    }

    /// Adds bytes read from the command.
    pub fn push(&mut self, stream: StreamKind, bytes: Bytes) {
        let offset = self.read.of(stream);
        *self.read.of_mut(stream) += bytes.len() as u64;
        if !bytes.is_empty() {
            self.chunks.push_back(Chunk { stream, offset, bytes });
        }
    }

    /// Frees everything sent in this epoch, acknowledged or not: for senders that can read it again.
    pub fn let_go_of_sent(&mut self) {
        self.chunks.drain(..self.sent);
        self.sent = 0;
    }

    /// How many chunks are unsent.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.chunks.len() - self.sent
    }

    /// Skips lost bytes. Call it only when no output is unsent, because the gap frame precedes all of
    /// it.
    pub fn skip(&mut self, to: StreamOffsets) {
        for stream in [StreamKind::Out, StreamKind::Err] {
            let (from, to) = (self.read.of(stream), to.of(stream));
            if from < to {
                let gap = super::decode::to_json(&Gap { stream, from, to });
                self.control(FrameKind::Gap, gap.into());
                *self.read.of_mut(stream) = to;
                *self.acknowledged.of_mut(stream) = to;
                // The caller never writes these bytes, so they use no window.
                self.limit = self.limit.saturating_add(to - from);
            }
        }
    }

    /// Queues a control frame ahead of all unsent output. A state frame replaces its predecessor, so
    /// that frequent queries cannot fill the queue.
    pub fn control(&mut self, kind: FrameKind, payload: Bytes) {
        let is_a_state = matches!(
            kind,
            FrameKind::Want
                | FrameKind::Signalled
                | FrameKind::Resized
                | FrameKind::Asked
                | FrameKind::Sized
                | FrameKind::Alive
        );
        match self.control.iter_mut().find(|(waiting, _)| is_a_state && *waiting == kind) {
            Some((_, waiting)) => *waiting = payload,
            None => self.control.push_back((kind, payload)),
        }
    }

    /// Queues `result` and then `end`, behind all output.
    pub fn close(&mut self, result: Bytes) {
        self.closing = Some(result);
    }

    /// Whether `result` is queued: only it and `end` follow the output.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether `end` was sent in this epoch.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed == 2
    }

    /// Whether a frame can be sent now.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        if !self.control.is_empty() {
            return true;
        }
        if self.sent < self.chunks.len() {
            return self.next_seq <= self.frames;
        }
        self.closing.is_some() && self.closed < 2
    }

    /// Takes the next frame to send. `output_max` is the most bytes of output per frame that the server
    /// accepts.
    pub fn next_frame(&mut self, output_max: usize) -> Option<Frame> {
        if let Some((kind, payload)) = self.control.pop_front() {
            return Some(self.numbered(kind, None, payload));
        }
        if self.sent < self.chunks.len() {
            return self.next_output(output_max.clamp(1, OUTPUT_MAX));
        }
        let result = self.closing.clone()?;
        match self.closed {
            0 => {
                self.closed = 1;
                Some(self.numbered(FrameKind::Result, None, result))
            }
            1 => {
                self.closed = 2;
                Some(self.numbered(FrameKind::End, None, Bytes::new()))
            }
            _ => None,
        }
    }

    fn next_output(&mut self, output_max: usize) -> Option<Frame> {
        if self.next_seq > self.frames {
            return None;
        }
        let chunk = self.chunks.get_mut(self.sent)?;
        if chunk.bytes.len() > output_max {
            let bytes = chunk.bytes.split_off(output_max);
            let rest = Chunk { stream: chunk.stream, offset: chunk.end(), bytes };
            self.chunks.insert(self.sent + 1, rest);
        }
        let Chunk { stream, offset, bytes } = self.chunks.get(self.sent)?.clone();
        self.sent += 1;
        Some(self.numbered(stream.into(), Some(offset), bytes))
    }

    fn numbered(&mut self, kind: FrameKind, offset: Option<u64>, payload: Bytes) -> Frame {
        let seq = self.next_seq;
        self.next_seq += 1;
        Frame { epoch: self.epoch, seq, kind, offset, payload }
    }

    /// Applies a credit. Its `frames` applies only to its own epoch.
    pub fn credit(&mut self, credit: &Credit) {
        self.acknowledge(StreamOffsets { out: credit.out, err: credit.err });
        self.limit = self.limit.max(credit.limit);
        if credit.epoch == self.epoch {
            self.frames = self.frames.max(credit.frames);
        }
    }

    fn acknowledge(&mut self, written: StreamOffsets) {
        for stream in [StreamKind::Out, StreamKind::Err] {
            let upto = written.of(stream).min(self.read.of(stream));
            let known = self.acknowledged.of_mut(stream);
            *known = upto.max(*known);
        }
        // Frees the acknowledged chunks of both streams. The window no longer counts them, so holding
        // them would break the memory limit, even if the caller never acknowledges the other stream.
        let (acknowledged, sent) = (self.acknowledged, self.sent);
        let mut place = 0;
        self.chunks.retain(|chunk| {
            let held = chunk.end() > acknowledged.of(chunk.stream);
            self.sent -= usize::from(!held && place < sent);
            place += 1;
            held
        });
    }

    /// Starts a new epoch at what the caller has received, with `accepted` as its first frame. For a
    /// known epoch it does nothing and returns `false`; the caller of this function must then send the
    /// first frame again.
    pub fn resume(&mut self, resume: &Resume, accepted: Bytes) -> bool {
        if resume.epoch <= self.epoch {
            return false;
        }
        self.epoch = resume.epoch;
        self.next_seq = 1;
        self.frames = FRAMES_IN_FLIGHT;
        self.limit = self.limit.max(resume.limit);
        self.control.clear();
        self.control(FrameKind::Accepted, accepted);
        self.sent = 0;
        self.closed = 0;
        let received = StreamOffsets { out: resume.out, err: resume.err };
        self.acknowledge(received);
        self.rewind_to(received);
        true
    }

    /// Frees chunks that the caller has, even behind a gap, and announces gaps that the buffer no
    /// longer holds.
    fn rewind_to(&mut self, received: StreamOffsets) {
        for chunk in &mut self.chunks {
            let known = received.of(chunk.stream).saturating_sub(chunk.offset);
            let known = usize::try_from(known).unwrap_or(usize::MAX).min(chunk.bytes.len());
            chunk.bytes = chunk.bytes.slice(known..);
            chunk.offset += known as u64;
        }
        self.chunks.retain(|chunk| !chunk.bytes.is_empty());
        for stream in [StreamKind::Out, StreamKind::Err] {
            let (from, to) = (received.of(stream), self.given_up.of(stream));
            if from < to {
                let gap = super::decode::to_json(&Gap { stream, from, to });
                self.control(FrameKind::Gap, gap.into());
            }
        }
    }

    /// Frees all chunks, because no caller came back for them.
    pub fn give_up(&mut self) {
        self.chunks.clear();
        self.sent = 0;
        self.given_up = self.read;
    }

    /// Repeats the first frame of the current epoch, for a caller that asked twice.
    #[must_use]
    pub fn first_again(&self, payload: Bytes) -> Frame {
        Frame { epoch: self.epoch, seq: 1, kind: FrameKind::Accepted, offset: None, payload }
    }
}

#[cfg(test)]
mod tests;
