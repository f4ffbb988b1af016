//! Tests the sender against a model caller: despite losses, repeats and delays, the caller receives
//! exactly the bytes that were read.

use proptest::prelude::*;

use super::*;
use crate::reassembly::{Piece, Reassembler, SequenceCheck};

fn frames(send_buffer: &mut SendBuffer) -> Vec<Frame> {
    std::iter::from_fn(|| send_buffer.next_frame(OUTPUT_MAX)).collect()
}

#[test]
fn nothing_is_read_beyond_the_window() {
    let mut send_buffer = SendBuffer::new(10);
    assert_eq!(send_buffer.room(), 10);
    send_buffer.push(StreamKind::Out, Bytes::from_static(b"0123456789"));
    assert_eq!(send_buffer.room(), 0);
    send_buffer.credit(&Credit {
        epoch: 1,
        instance: None,
        limit: 14,
        frames: 1024,
        out: 4,
        err: 0,
        done: false,
    });
    assert_eq!(send_buffer.room(), 4);
    send_buffer.credit(&Credit {
        epoch: 1,
        instance: None,
        limit: 12,
        frames: 1024,
        out: 2,
        err: 0,
        done: false,
    });
    assert_eq!(send_buffer.room(), 4, "an older credit that comes late changes nothing");
}

#[test]
fn small_frames_are_limited_too() {
    let mut send_buffer = SendBuffer::new(1 << 20);
    for _ in 0..FRAMES_IN_FLIGHT {
        assert!(send_buffer.room() > 0);
        send_buffer.push(StreamKind::Out, Bytes::from_static(b"x"));
    }
    assert_eq!(send_buffer.room(), 0);
    assert_eq!(frames(&mut send_buffer).len() as u64, FRAMES_IN_FLIGHT);
    assert!(!send_buffer.has_frame());
}

#[test]
fn result_and_end_come_last() {
    let mut send_buffer = SendBuffer::new(1 << 20);
    send_buffer.close(Bytes::from_static(b"{}"));
    send_buffer.push(StreamKind::Err, Bytes::from_static(b"late"));
    let kinds: Vec<_> = frames(&mut send_buffer).into_iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [FrameKind::Err, FrameKind::Result, FrameKind::End]);
    assert!(send_buffer.is_closed());
}

#[test]
fn what_was_given_up_is_named() {
    let mut send_buffer = SendBuffer::new(100);
    send_buffer.push(StreamKind::Out, Bytes::from_static(b"abc"));
    send_buffer.give_up();
    assert!(send_buffer.resume(
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
    let [_, gap] = [send_buffer.next_frame(OUTPUT_MAX), send_buffer.next_frame(OUTPUT_MAX)];
    let gap = gap.expect("a gap");
    assert_eq!(gap.kind, FrameKind::Gap);
    assert_eq!(&gap.payload[..], br#"{"stream":"out","from":1,"to":3}"#);
}

#[test]
fn what_was_acknowledged_is_not_held_behind_the_other_stream() {
    let mut send_buffer = SendBuffer::new(1 << 20);
    send_buffer.push(StreamKind::Err, Bytes::from_static(b"never acknowledged"));
    let credit =
        |out| Credit { epoch: 1, instance: None, limit: 1 << 20, frames: 1 << 20, out, err: 0, done: false };
    for round in 1..=100 {
        send_buffer.push(StreamKind::Out, Bytes::from_static(b"0123456789"));
        while send_buffer.next_frame(OUTPUT_MAX).is_some() {}
        send_buffer.credit(&credit(round * 10));
    }
    assert_eq!((send_buffer.chunks.len(), send_buffer.sent), (1, 1));
}

#[test]
fn control_frames_that_nobody_takes_do_not_pile_up() {
    let mut send_buffer = SendBuffer::new(100);
    send_buffer.control(FrameKind::Accepted, Bytes::new());
    for round in 0..100 {
        send_buffer.control(FrameKind::Signalled, Bytes::from(format!("{round}")));
        send_buffer.control(FrameKind::Want, Bytes::from(format!("{round}")));
    }
    let sent: Vec<_> =
        frames(&mut send_buffer).into_iter().map(|frame| (frame.kind, frame.payload)).collect();
    let last = Bytes::from_static(b"99");
    assert_eq!(
        sent,
        [(FrameKind::Accepted, Bytes::new()), (FrameKind::Signalled, last.clone()), (FrameKind::Want, last)]
    );
}

#[test]
fn a_repeated_resume_begins_nothing_new() {
    let mut send_buffer = SendBuffer::new(100);
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
    assert!(send_buffer.resume(&resume, Bytes::new()));
    assert!(!send_buffer.resume(&resume, Bytes::new()));
    assert!(!send_buffer.resume(&Resume { epoch: 1, ..resume.clone() }, Bytes::new()));
}

/// A step between the two ends.
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

    fn resume(&mut self, send_buffer: &mut SendBuffer) {
        self.epoch += 1;
        let (out, err) = (self.got[0].len() as u64, self.got[1].len() as u64);
        let limit = out + err + 200;
        assert!(send_buffer.resume(
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

    fn credit(&self, send_buffer: &mut SendBuffer) {
        let (out, err) = (self.got[0].len() as u64, self.got[1].len() as u64);
        let (limit, frames) = (out + err + 200, self.joining.frames() + 50);
        send_buffer.credit(&Credit {
            epoch: self.epoch,
            instance: None,
            limit,
            frames,
            out,
            err,
            done: false,
        });
    }
}

proptest! {
    #[test]
    fn whatever_is_lost_the_caller_ends_up_with_the_same_bytes(steps in proptest::collection::vec(step(), 0..200)) {
        let mut send_buffer = SendBuffer::new(200);
        let mut caller = Caller { joining: Reassembler::new(), epoch: 1, got: Default::default(), finished: false };
        let mut written: [Vec<u8>; 2] = Default::default();
        for step in steps {
            match step {
                Step::Read(is_err, bytes) => {
                    let room = usize::try_from(send_buffer.room()).expect("small");
                    let bytes = &bytes[..bytes.len().min(room)];
                    let stream = if is_err { StreamKind::Err } else { StreamKind::Out };
                    written[stream as usize].extend_from_slice(bytes);
                    send_buffer.push(stream, Bytes::copy_from_slice(bytes));
                }
                Step::Deliver(count) => {
                    for _ in 0..count {
                        let Some(frame) = send_buffer.next_frame(16) else { break };
                        if !caller.take(&frame) {
                            caller.resume(&mut send_buffer);
                        }
                    }
                }
                Step::Lose => drop(send_buffer.next_frame(16)),
                Step::Credit => caller.credit(&mut send_buffer),
                Step::LostCredit => {}
                Step::Resume => caller.resume(&mut send_buffer),
            }
            prop_assert!(send_buffer.read().sum() <= caller.got[0].len() as u64 + caller.got[1].len() as u64 + 400);
        }
        send_buffer.close(Bytes::from_static(b"{}"));
        caller.resume(&mut send_buffer);
        while !caller.finished {
            let mut frames = 0;
            while let Some(frame) = send_buffer.next_frame(16) {
                prop_assert!(caller.take(&frame));
                frames += 1;
            }
            caller.credit(&mut send_buffer);
            prop_assert!(frames > 0 || caller.finished, "neither end moves");
        }
        prop_assert_eq!(&caller.got, &written);
        caller.credit(&mut send_buffer);
        prop_assert!(send_buffer.all_acknowledged());
    }
}

#[test]
fn who_can_read_again_begins_anywhere_and_holds_nothing() {
    let mut send_buffer = SendBuffer::beginning_at(3, StreamOffsets { out: 10, err: 5 }, 20);
    assert_eq!(
        (send_buffer.epoch(), send_buffer.room(), send_buffer.read()),
        (3, 20, StreamOffsets { out: 10, err: 5 })
    );
    send_buffer.push(StreamKind::Out, Bytes::from_static(b"abc"));
    let frame = send_buffer.next_frame(OUTPUT_MAX).expect("output");
    assert_eq!((frame.epoch, frame.seq, frame.offset), (3, 1, Some(10)));
    send_buffer.let_go_of_sent();
    assert_eq!((send_buffer.unsent(), send_buffer.room()), (0, 17));
    send_buffer.skip(StreamOffsets { out: 20, err: 5 });
    assert_eq!(send_buffer.room(), 17, "what nobody has to write takes nothing of the window");
    let gap = send_buffer.next_frame(OUTPUT_MAX).expect("the gap");
    assert_eq!(gap.payload, r#"{"stream":"out","from":13,"to":20}"#.as_bytes());
    assert!(send_buffer.next_frame(OUTPUT_MAX).is_none(), "nothing is missing of the other stream");
    send_buffer.push(StreamKind::Out, Bytes::from_static(b"d"));
    assert_eq!(send_buffer.next_frame(OUTPUT_MAX).expect("output").offset, Some(20));
}
