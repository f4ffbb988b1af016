//! The receiver of a job's stream, as pure rules: whether a frame is the next one, and which of its
//! bytes are new.

use super::frame::StreamKind;
use super::send_buffer::StreamOffsets;

/// The state of the receiver.
#[derive(Debug, Clone)]
pub struct Reassembler {
    epoch: u64,
    frames: u64,
    received: StreamOffsets,
}

/// The meaning of a frame's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceCheck {
    /// The expected frame.
    Next,
    /// Of another epoch, or a duplicate: drop it silently.
    Stale,
    /// At least one earlier frame is missing: resume.
    Lost,
}

/// The meaning of an output frame's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// New from this byte of the payload on.
    From(usize),
    /// All bytes are known already.
    Nothing,
    /// Earlier bytes are missing.
    Hole,
}

impl Reassembler {
    /// Starts at the first epoch, with nothing received.
    #[must_use]
    pub fn new() -> Self {
        Self { epoch: 1, frames: 0, received: StreamOffsets::default() }
    }

    /// Starts another epoch; received bytes stay.
    pub fn begin(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.frames = 0;
    }

    /// The current epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Frames of this epoch received without a gap.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes received without a gap.
    #[must_use]
    pub fn received(&self) -> StreamOffsets {
        self.received
    }

    /// Checks a frame's numbers, and counts the frame if it is the next.
    pub fn order(&mut self, epoch: u64, seq: u64) -> SequenceCheck {
        if epoch != self.epoch || seq <= self.frames {
            return SequenceCheck::Stale;
        }
        if seq != self.frames + 1 {
            return SequenceCheck::Lost;
        }
        self.frames = seq;
        SequenceCheck::Next
    }

    /// Checks the offset of a piece of output, and counts its new bytes.
    pub fn piece(&mut self, stream: StreamKind, offset: u64, length: usize) -> Piece {
        let received = self.received.of_mut(stream);
        let end = offset.saturating_add(length as u64);
        if offset > *received {
            return Piece::Hole;
        }
        if end <= *received {
            return Piece::Nothing;
        }
        let known = *received - offset;
        *received = end;
        usize::try_from(known).map_or(Piece::Nothing, Piece::From)
    }

    /// Skips bytes that no longer exist anywhere.
    pub fn skip(&mut self, stream: StreamKind, to: u64) {
        let received = self.received.of_mut(stream);
        *received = to.max(*received);
    }
}

impl Default for Reassembler {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_judged_by_their_numbers() {
        let mut joining = Reassembler::new();
        assert_eq!(joining.order(1, 1), SequenceCheck::Next);
        assert_eq!(joining.order(1, 1), SequenceCheck::Stale);
        assert_eq!(joining.order(1, 3), SequenceCheck::Lost);
        assert_eq!(joining.order(2, 2), SequenceCheck::Stale);
        joining.begin(2);
        assert_eq!(joining.order(1, 2), SequenceCheck::Stale);
        assert_eq!(joining.order(2, 1), SequenceCheck::Next);
    }

    #[test]
    fn output_is_joined_to_the_byte() {
        let mut joining = Reassembler::new();
        assert_eq!(joining.piece(StreamKind::Out, 0, 5), Piece::From(0));
        assert_eq!(joining.piece(StreamKind::Out, 3, 4), Piece::From(2));
        assert_eq!(joining.piece(StreamKind::Out, 0, 7), Piece::Nothing);
        assert_eq!(joining.piece(StreamKind::Out, 8, 1), Piece::Hole);
        assert_eq!(joining.piece(StreamKind::Err, 0, 1), Piece::From(0));
        assert_eq!(joining.received(), StreamOffsets { out: 7, err: 1 });
    }
}
