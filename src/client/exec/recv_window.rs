//! The receive window of one execution, as pure rules: what was received, what was written, the
//! resulting credit, and whether totals and digests match at the end.

use bytes::Bytes;

use peerbus_protocol::control::{Credit, FRAMES_IN_FLIGHT, Resume};
use peerbus_protocol::exec::{JobResult, StreamTotal};
use peerbus_protocol::frame::{Gap, StreamKind};
use peerbus_protocol::reassembly::{Piece, Reassembler, SequenceCheck};
use peerbus_protocol::send_buffer::StreamOffsets;
use peerbus_protocol::{Ending, Instance};

use super::Integrity;

#[derive(Debug)]
pub(super) struct RecvWindow {
    joining: Reassembler,
    digests: [blake3::Hasher; 2],
    written: StreamOffsets,
    /// Output frames delivered to the owner but not yet written, and their bytes.
    pending: u64,
    pending_bytes: u64,
    window: u64,
    credited_bytes: u64,
    credited_frames: u64,
    gaps: Vec<Gap>,
    /// Whether the caller asked for all output, so that the digests are comparable.
    whole: bool,
}

/// Why the window rejects a piece of output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    /// An earlier piece is missing.
    Lost,
    /// It exceeds the peer's credit.
    Beyond,
}

/// Most unwritten pieces of any size: a peer that respects its credit never reaches this.
const PIECES_MOST: u64 = 64 * FRAMES_IN_FLIGHT;

impl RecvWindow {
    pub(super) fn new(window: u64) -> Self {
        Self {
            joining: Reassembler::new(),
            digests: [blake3::Hasher::new(), blake3::Hasher::new()],
            written: StreamOffsets::default(),
            pending: 0,
            pending_bytes: 0,
            window,
            credited_bytes: 0,
            credited_frames: 0,
            gaps: Vec::new(),
            whole: true,
        }
    }

    pub(super) fn order(&mut self, epoch: u64, seq: u64) -> SequenceCheck {
        self.joining.order(epoch, seq)
    }

    /// Bytes received without a gap.
    pub(super) fn received(&self) -> StreamOffsets {
        self.joining.received()
    }

    /// Takes a piece of output; returns its new part.
    pub(super) fn output(
        &mut self,
        stream: StreamKind,
        offset: u64,
        bytes: &Bytes,
    ) -> Result<Option<Bytes>, Rejected> {
        match self.joining.piece(stream, offset, bytes.len()) {
            Piece::Hole => Err(Rejected::Lost),
            Piece::Nothing => Ok(None),
            Piece::From(known) => {
                let fresh = bytes.slice(known..);
                // A peer that respects its credit never has more than one window unwritten.
                self.pending_bytes += fresh.len() as u64;
                if self.pending_bytes > self.window || self.pending >= PIECES_MOST {
                    return Err(Rejected::Beyond);
                }
                self.digests[stream as usize].update(&fresh);
                self.pending += 1;
                Ok(Some(fresh))
            }
        }
    }

    /// Records output that no longer exists anywhere.
    pub(super) fn gap(&mut self, gap: Gap) {
        self.pass_over(gap.stream, gap.to);
        self.gaps.push(gap);
    }

    /// Records output that the peer no longer keeps, which is no loss; returns how many bytes of it we
    /// lack.
    pub(super) fn not_kept(&mut self, gap: &Gap) -> u64 {
        let missed = gap.to.saturating_sub(self.received().of(gap.stream));
        self.pass_over(gap.stream, gap.to);
        self.whole = false;
        missed
    }

    /// Starts in the middle, at the requested offset.
    pub(super) fn begin_at(&mut self, from: StreamOffsets) {
        self.whole &= from == StreamOffsets::default();
        for stream in [StreamKind::Out, StreamKind::Err] {
            self.pass_over(stream, from.of(stream));
        }
        self.credited_bytes = self.written.sum();
    }

    /// Skipped bytes count as written; received bytes that are unwritten do not yet.
    fn pass_over(&mut self, stream: StreamKind, to: u64) {
        let left_out = to.saturating_sub(self.joining.received().of(stream));
        self.joining.skip(stream, to);
        *self.written.of_mut(stream) += left_out;
    }

    /// Records that one delivered piece was written to its destination.
    pub(super) fn wrote(&mut self, stream: StreamKind, bytes: usize) {
        *self.written.of_mut(stream) += bytes as u64;
        self.pending = self.pending.saturating_sub(1);
        self.pending_bytes = self.pending_bytes.saturating_sub(bytes as u64);
    }

    /// Whether everything received was written.
    pub(super) fn all_written(&self) -> bool {
        self.pending == 0
    }

    fn frames_written(&self) -> u64 {
        self.joining.frames().saturating_sub(self.pending)
    }

    /// Whether enough was written since the last credit to send a new one.
    pub(super) fn credit_is_due(&self) -> bool {
        self.written.sum() - self.credited_bytes >= self.window / 4
            || self.frames_written().saturating_sub(self.credited_frames) >= FRAMES_IN_FLIGHT / 4
    }

    pub(super) fn credit(&mut self, instance: Option<Instance>) -> Credit {
        self.credited_bytes = self.written.sum();
        self.credited_frames = self.frames_written();
        Credit {
            epoch: self.joining.epoch(),
            instance,
            limit: self.written.sum() + self.window,
            frames: self.frames_written() + FRAMES_IN_FLIGHT,
            out: self.written.out,
            err: self.written.err,
            done: false,
        }
    }

    /// Starts the next epoch: requests everything after the received bytes again.
    pub(super) fn begin_epoch(&mut self) {
        self.joining.begin(self.joining.epoch() + 1);
        self.credited_frames = 0;
    }

    /// The resume request that starts the current epoch at the peer.
    pub(super) fn resume(&self, instance: Option<Instance>, write: bool, sealed: bool) -> Resume {
        let received = self.joining.received();
        Resume {
            epoch: self.joining.epoch(),
            instance,
            out: received.out,
            err: received.err,
            limit: self.written.sum() + self.window,
            write,
            sealed,
            within: Vec::new(),
        }
    }

    /// The current epoch.
    pub(super) fn epoch(&self) -> u64 {
        self.joining.epoch()
    }

    /// The window, in bytes.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Compares the received output with the peer's totals and digests.
    pub(super) fn compare(&self, result: &JobResult) -> Integrity {
        let mut faults: Vec<String> = self
            .gaps
            .iter()
            .map(|gap| format!("{} bytes of {} are lost", gap.to.saturating_sub(gap.from), name(gap.stream)))
            .collect();
        for (stream, total) in [(StreamKind::Out, &result.out), (StreamKind::Err, &result.err)] {
            // Missing totals mean no output, unless the ending is unknown.
            let nothing = StreamTotal { bytes: 0, blake3: blake3::hash(b"").to_hex().to_string() };
            let counted = total.is_some() || !matches!(result.ending, Ending::Unknown { .. });
            if counted {
                faults.extend(self.fault(stream, total.as_ref().unwrap_or(&nothing)));
            }
        }
        if faults.is_empty() { Integrity::Whole } else { Integrity::Damaged(faults.join("; ")) }
    }

    fn fault(&self, stream: StreamKind, total: &StreamTotal) -> Option<String> {
        let received = self.joining.received().of(stream);
        if received != total.bytes {
            return Some(format!("{received} of {} bytes of {} came", total.bytes, name(stream)));
        }
        let digest = self.digests[stream as usize].finalize().to_hex();
        let gapless = !self.gaps.iter().any(|gap| gap.stream == stream);
        (gapless && self.whole && digest.as_str() != total.blake3)
            .then(|| format!("{} differs from what the command wrote", name(stream)))
    }
}

fn name(stream: StreamKind) -> &'static str {
    match stream {
        StreamKind::Out => "stdout",
        StreamKind::Err => "stderr",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(out: &[u8]) -> JobResult {
        let total = |bytes: &[u8]| StreamTotal {
            bytes: bytes.len() as u64,
            blake3: blake3::hash(bytes).to_hex().to_string(),
        };
        let peer = "w1".parse().expect("valid");
        let bare = JobResult::bare(None, peer, Instance::new(), Ending::Exited { code: 0 });
        JobResult { out: Some(total(out)), err: Some(total(b"")), ..bare }
    }

    #[test]
    fn what_does_not_add_up_is_said() {
        let mut recv_window = RecvWindow::new(1 << 20);
        assert_eq!(
            recv_window.output(StreamKind::Out, 0, &Bytes::from_static(b"abc")),
            Ok(Some(Bytes::from_static(b"abc")))
        );
        assert_eq!(recv_window.compare(&result(b"abc")), Integrity::Whole);
        assert!(
            matches!(recv_window.compare(&result(b"abd")), Integrity::Damaged(why) if why.contains("differs"))
        );
        assert!(
            matches!(recv_window.compare(&result(b"abcd")), Integrity::Damaged(why) if why.contains("3 of 4"))
        );
        // A peer that ran nothing printed nothing; with an unknown ending, no one counted.
        let bare = |ending| JobResult { out: None, err: None, ending, ..result(b"") };
        let ended = recv_window.compare(&bare(Ending::Exited { code: 0 }));
        assert!(matches!(ended, Integrity::Damaged(why) if why.contains("3 of 0")));
        assert_eq!(recv_window.compare(&bare(Ending::Unknown { why: String::new() })), Integrity::Whole);
        recv_window.gap(Gap { stream: StreamKind::Out, from: 3, to: 5 });
        assert!(
            matches!(recv_window.compare(&result(b"abcde")), Integrity::Damaged(why) if why == "2 bytes of stdout are lost")
        );
    }

    #[test]
    fn who_begins_in_the_middle_compares_totals() {
        let mut recv_window = RecvWindow::new(100);
        recv_window.begin_at(StreamOffsets { out: 2, err: 0 });
        assert_eq!(recv_window.credit(None).limit, 102);
        assert_eq!(recv_window.output(StreamKind::Out, 3, &Bytes::from_static(b"d")), Err(Rejected::Lost));
        assert!(recv_window.output(StreamKind::Out, 2, &Bytes::from_static(b"c")).is_ok());
        assert_eq!(recv_window.compare(&result(b"abc")), Integrity::Whole);
        assert!(
            matches!(recv_window.compare(&result(b"abcd")), Integrity::Damaged(why) if why.contains("3 of 4"))
        );
    }

    #[test]
    fn what_was_not_kept_is_no_fault_and_the_rest_is_compared() {
        let mut recv_window = RecvWindow::new(100);
        let gap = Gap { stream: StreamKind::Out, from: 0, to: 2 };
        assert_eq!((recv_window.not_kept(&gap), recv_window.not_kept(&gap)), (2, 0));
        assert!(recv_window.output(StreamKind::Out, 2, &Bytes::from_static(b"c")).is_ok());
        assert_eq!(recv_window.compare(&result(b"abc")), Integrity::Whole);
        assert!(matches!(recv_window.compare(&result(b"abcd")), Integrity::Damaged(_)));
    }

    #[test]
    fn what_waits_to_be_written_is_not_counted_by_a_gap() {
        let mut recv_window = RecvWindow::new(100);
        assert!(recv_window.output(StreamKind::Out, 0, &Bytes::from_static(b"abc")).is_ok());
        recv_window.gap(Gap { stream: StreamKind::Out, from: 3, to: 10 });
        assert_eq!(recv_window.credit(None).limit, 107);
        recv_window.wrote(StreamKind::Out, 3);
        assert_eq!(recv_window.credit(None).limit, 110);
    }

    #[test]
    fn more_than_was_granted_is_not_taken() {
        let mut recv_window = RecvWindow::new(100);
        let bytes = Bytes::from(vec![0; 100]);
        assert!(recv_window.output(StreamKind::Out, 0, &bytes).is_ok());
        recv_window.wrote(StreamKind::Out, 100);
        assert!(recv_window.output(StreamKind::Out, 100, &bytes).is_ok(), "the next window");
        assert_eq!(recv_window.output(StreamKind::Err, 0, &Bytes::from_static(b"x")), Err(Rejected::Beyond));
        let mut recv_window = RecvWindow::new(1 << 30);
        let taken = (0..2 * PIECES_MOST)
            .take_while(|at| recv_window.output(StreamKind::Out, *at, &Bytes::from_static(b"x")).is_ok());
        assert_eq!(taken.count() as u64, PIECES_MOST);
    }

    #[test]
    fn credit_is_given_for_what_was_written_only() {
        let mut recv_window = RecvWindow::new(100);
        for seq in 1..=3 {
            assert_eq!(recv_window.order(1, seq), SequenceCheck::Next);
        }
        let bytes = Bytes::from(vec![0; 30]);
        assert!(recv_window.output(StreamKind::Out, 0, &bytes).is_ok());
        assert!(!recv_window.credit_is_due());
        assert_eq!(recv_window.credit(None).limit, 100);
        recv_window.wrote(StreamKind::Out, 30);
        assert!(recv_window.credit_is_due());
        let credit = recv_window.credit(None);
        assert_eq!((credit.limit, credit.out, credit.frames), (130, 30, 3 + FRAMES_IN_FLIGHT));
    }
}
