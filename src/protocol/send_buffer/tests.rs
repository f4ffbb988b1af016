//! The sending end against a model caller: whatever is lost, repeated or late, the caller ends up
//! with the very bytes that were read.

use proptest::prelude::*;

use super::super::reassembly::{Piece, Reassembler, SequenceCheck};
use super::*;

fn frames(outbox: &mut SendBuffer) -> Vec<Frame> {
    std::iter::from_fn(|| outbox.next_frame(OUTPUT_MAX)).collect()
}

#[test]
fn nothing_is_read_beyond_the_window() {
    let mut outbox = SendBuffer::new(10);
    assert_eq!(outbox.room(), 10);
    outbox.push(StreamKind::Out, Bytes::from_static(b"0123456789"));
    assert_eq!(outbox.room(), 0);
    outbox.credit(&Credit { epoch: 1, instance: None, limit: 14, frames: 1024, out: 4, err: 0, done: false });
    assert_eq!(outbox.room(), 4);
    outbox.credit(&Credit { epoch: 1, instance: None, limit: 12, frames: 1024, out: 2, err: 0, done: false });
    assert_eq!(outbox.room(), 4, "an older credit that comes late changes nothing");
}

#[test]
fn small_frames_are_limited_too() {
    let mut outbox = SendBuffer::new(1 << 20);
    for _ in 0..FRAMES_IN_FLIGHT {
        assert!(outbox.room() > 0);
        outbox.push(StreamKind::Out, Bytes::from_static(b"x"));
    }
    assert_eq!(outbox.room(), 0);
    assert_eq!(frames(&mut outbox).len() as u64, FRAMES_IN_FLIGHT);
    assert!(!outbox.has_frame());
}

#[test]
fn result_and_end_come_last() {
    let mut outbox = SendBuffer::new(1 << 20);
    outbox.close(Bytes::from_static(b"{}"));
    outbox.push(StreamKind::Err, Bytes::from_static(b"late"));
    let kinds: Vec<_> = frames(&mut outbox).into_iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [FrameKind::Err, FrameKind::Result, FrameKind::End]);
    assert!(outbox.is_closed());
}

#[test]
fn what_was_given_up_is_named() {
    let mut outbox = SendBuffer::new(100);
    outbox.push(StreamKind::Out, Bytes::from_static(b"abc"));
    outbox.give_up();
    assert!(outbox.resume(
        &Resume {
            epoch: 2,
            instance: None,
            out: 1,
            err: 0,
            limit: 100,
            write: false,
            sealed: false,
            within: Vec::new()
        },
        Bytes::new()
    ));
    let [_, gap] = [outbox.next_frame(OUTPUT_MAX), outbox.next_frame(OUTPUT_MAX)];
    let gap = gap.expect("a gap");
    assert_eq!(gap.kind, FrameKind::Gap);
    assert_eq!(&gap.payload[..], br#"{"stream":"out","from":1,"to":3}"#);
}

#[test]
fn what_was_acknowledged_is_not_held_behind_the_other_stream() {
    let mut outbox = SendBuffer::new(1 << 20);
    outbox.push(StreamKind::Err, Bytes::from_static(b"never acknowledged"));
    let credit =
        |out| Credit { epoch: 1, instance: None, limit: 1 << 20, frames: 1 << 20, out, err: 0, done: false };
    for round in 1..=100 {
        outbox.push(StreamKind::Out, Bytes::from_static(b"0123456789"));
        while outbox.next_frame(OUTPUT_MAX).is_some() {}
        outbox.credit(&credit(round * 10));
    }
    assert_eq!((outbox.chunks.len(), outbox.sent), (1, 1));
}

#[test]
fn control_frames_that_nobody_takes_do_not_pile_up() {
    let mut outbox = SendBuffer::new(100);
    outbox.control(FrameKind::Accepted, Bytes::new());
    for round in 0..100 {
        outbox.control(FrameKind::Signalled, Bytes::from(format!("{round}")));
        outbox.control(FrameKind::Want, Bytes::from(format!("{round}")));
    }
    let sent: Vec<_> = frames(&mut outbox).into_iter().map(|frame| (frame.kind, frame.payload)).collect();
    let last = Bytes::from_static(b"99");
    assert_eq!(
        sent,
        [(FrameKind::Accepted, Bytes::new()), (FrameKind::Signalled, last.clone()), (FrameKind::Want, last)]
    );
}

#[test]
fn a_repeated_resume_begins_nothing_new() {
    let mut outbox = SendBuffer::new(100);
    let resume = Resume {
        epoch: 2,
        instance: None,
        out: 0,
        err: 0,
        limit: 100,
        write: false,
        sealed: false,
        within: Vec::new(),
    };
    assert!(outbox.resume(&resume, Bytes::new()));
    assert!(!outbox.resume(&resume, Bytes::new()));
    assert!(!outbox.resume(&Resume { epoch: 1, ..resume.clone() }, Bytes::new()));
}

/// What may happen between the two ends.
#[derive(Debug, Clone)]
enum Step {
    Read(bool, Vec<u8>),
    Deliver(usize),
    Lose,
    Credit,
    LostCredit,
    Resume,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), proptest::collection::vec(any::<u8>(), 1..40)).prop_map(|(s, b)| Step::Read(s, b)),
        4 => (1_usize..20).prop_map(Step::Deliver),
        1 => Just(Step::Lose),
        2 => Just(Step::Credit),
        1 => Just(Step::LostCredit),
        1 => Just(Step::Resume),
    ]
}

struct Caller {
    joining: Reassembler,
    epoch: u64,
    got: [Vec<u8>; 2],
    finished: bool,
}

impl Caller {
    fn take(&mut self, frame: &Frame) -> bool {
        match self.joining.order(frame.epoch, frame.seq) {
            SequenceCheck::Next => {}
            SequenceCheck::Stale => return true,
            SequenceCheck::Lost => return false,
        }
        let stream = match frame.kind {
            FrameKind::Out => StreamKind::Out,
            FrameKind::Err => StreamKind::Err,
            FrameKind::End => {
                self.finished = true;
                return true;
            }
            _ => return true,
        };
        match self.joining.piece(stream, frame.offset.expect("output has an offset"), frame.payload.len()) {
            Piece::From(skip) => self.got[stream as usize].extend_from_slice(&frame.payload[skip..]),
            Piece::Nothing => {}
            Piece::Hole => panic!("numbered without a hole, so bytes must be too"),
        }
        true
    }

    fn resume(&mut self, outbox: &mut SendBuffer) {
        self.epoch += 1;
        let (out, err) = (self.got[0].len() as u64, self.got[1].len() as u64);
        let limit = out + err + 200;
        assert!(outbox.resume(
            &Resume {
                epoch: self.epoch,
                instance: None,
                out,
                err,
                limit,
                write: false,
                sealed: false,
                within: Vec::new()
            },
            Bytes::new()
        ));
        self.joining.begin(self.epoch);
    }

    fn credit(&self, outbox: &mut SendBuffer) {
        let (out, err) = (self.got[0].len() as u64, self.got[1].len() as u64);
        let (limit, frames) = (out + err + 200, self.joining.frames() + 50);
        outbox.credit(&Credit { epoch: self.epoch, instance: None, limit, frames, out, err, done: false });
    }
}

proptest! {
    #[test]
    fn whatever_is_lost_the_caller_ends_up_with_the_same_bytes(steps in proptest::collection::vec(step(), 0..200)) {
        let mut outbox = SendBuffer::new(200);
        let mut caller = Caller { joining: Reassembler::new(), epoch: 1, got: Default::default(), finished: false };
        let mut written: [Vec<u8>; 2] = Default::default();
        for step in steps {
            match step {
                Step::Read(is_err, bytes) => {
                    let room = usize::try_from(outbox.room()).expect("small");
                    let bytes = &bytes[..bytes.len().min(room)];
                    let stream = if is_err { StreamKind::Err } else { StreamKind::Out };
                    written[stream as usize].extend_from_slice(bytes);
                    outbox.push(stream, Bytes::copy_from_slice(bytes));
                }
                Step::Deliver(count) => {
                    for _ in 0..count {
                        let Some(frame) = outbox.next_frame(16) else { break };
                        if !caller.take(&frame) {
                            caller.resume(&mut outbox);
                        }
                    }
                }
                Step::Lose => drop(outbox.next_frame(16)),
                Step::Credit => caller.credit(&mut outbox),
                Step::LostCredit => {}
                Step::Resume => caller.resume(&mut outbox),
            }
            prop_assert!(outbox.read().sum() <= caller.got[0].len() as u64 + caller.got[1].len() as u64 + 400);
        }
        outbox.close(Bytes::from_static(b"{}"));
        caller.resume(&mut outbox);
        while !caller.finished {
            let mut frames = 0;
            while let Some(frame) = outbox.next_frame(16) {
                prop_assert!(caller.take(&frame));
                frames += 1;
            }
            caller.credit(&mut outbox);
            prop_assert!(frames > 0 || caller.finished, "neither end moves");
        }
        prop_assert_eq!(&caller.got, &written);
        caller.credit(&mut outbox);
        prop_assert!(outbox.all_acknowledged());
    }
}

#[test]
fn who_can_read_again_begins_anywhere_and_holds_nothing() {
    let mut outbox = SendBuffer::beginning_at(3, StreamOffsets { out: 10, err: 5 }, 20);
    assert_eq!((outbox.epoch(), outbox.room(), outbox.read()), (3, 20, StreamOffsets { out: 10, err: 5 }));
    outbox.push(StreamKind::Out, Bytes::from_static(b"abc"));
    let frame = outbox.next_frame(OUTPUT_MAX).expect("output");
    assert_eq!((frame.epoch, frame.seq, frame.offset), (3, 1, Some(10)));
    outbox.let_go_of_sent();
    assert_eq!((outbox.unsent(), outbox.room()), (0, 17));
    outbox.skip(StreamOffsets { out: 20, err: 5 });
    assert_eq!(outbox.room(), 17, "what nobody has to write takes nothing of the window");
    let gap = outbox.next_frame(OUTPUT_MAX).expect("the gap");
    assert_eq!(gap.payload, r#"{"stream":"out","from":13,"to":20}"#.as_bytes());
    assert!(outbox.next_frame(OUTPUT_MAX).is_none(), "nothing is missing of the other stream");
    outbox.push(StreamKind::Out, Bytes::from_static(b"d"));
    assert_eq!(outbox.next_frame(OUTPUT_MAX).expect("output").offset, Some(20));
}
