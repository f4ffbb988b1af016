//! Property tests: logs that are written, read concurrently, truncated and dropped.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::segment::{HEADER_BYTES, RECORD_BYTES, Record, bytes_path, header, runs_path, starts};
use super::{Extent, Piece, Reader, Writer};
use peerbus_protocol::frame::StreamKind::{self, Err, Out};
use peerbus_protocol::send_buffer::StreamOffsets;

/// The expected content, byte by byte.
#[derive(Debug, Default, Clone)]
struct Model {
    bytes: Vec<u8>,
    streams: Vec<StreamKind>,
    /// The offsets of each byte, and of the end.
    totals: Vec<StreamOffsets>,
}

impl Model {
    fn of(pieces: &[(StreamKind, usize)]) -> Self {
        let mut model = Self { totals: vec![StreamOffsets::default()], ..Self::default() };
        for &(stream, length) in pieces {
            for _ in 0..length {
                let at = model.bytes.len();
                model.bytes.push((at ^ (at >> 8) ^ (at >> 16)) as u8);
                model.streams.push(stream);
                let mut totals = model.totals[at];
                *totals.of_mut(stream) += 1;
                model.totals.push(totals);
            }
        }
        model
    }

    /// Reads from `at` to the current end. Returns the position reached and the number of dropped bytes.
    fn check(&self, reader: &mut Reader, mut at: usize, most: usize) -> (usize, usize) {
        let mut dropped = 0;
        loop {
            match reader.read(at as u64, most).expect("readable") {
                Piece::End => return (at, dropped),
                Piece::Dropped { to } => {
                    let next = to.sum() as usize;
                    assert!(next > at, "dropped to {to:?}, before {at}");
                    assert_eq!(to, self.totals[next]);
                    dropped += next - at;
                    at = next;
                }
                Piece::Bytes { stream, offset, bytes } => {
                    at = self.check_piece(at, stream, offset, &bytes, most)
                }
            }
        }
    }

    fn check_piece(&self, at: usize, stream: StreamKind, offset: u64, bytes: &Bytes, most: usize) -> usize {
        let end = at + bytes.len();
        assert!(!bytes.is_empty() && bytes.len() <= most);
        assert_eq!(bytes[..], self.bytes[at..end], "at {at}");
        assert!(self.streams[at..end].iter().all(|whose| *whose == stream), "at {at}");
        assert_eq!(offset, self.totals[at].of(stream), "at {at}");
        end
    }
}

fn append(writer: &mut Writer, model: &Model, from: usize, length: usize) {
    let stream = model.streams[from];
    let mut bytes = Bytes::copy_from_slice(&model.bytes[from..from + length]);
    writer.append(stream, &mut bytes).expect("written");
    assert!(bytes.is_empty());
    assert_eq!(writer.totals(), model.totals[from + length]);
}

/// The total size of a log's files.
fn size(directory: &Path) -> u64 {
    fs::read_dir(directory)
        .expect("a log")
        .map(|file| file.expect("a file").metadata().expect("size").len())
        .sum()
}

fn stream() -> impl Strategy<Value = StreamKind> {
    prop_oneof![Just(Out), Just(Err)]
}

fn pieces() -> impl Strategy<Value = Vec<(StreamKind, usize)>> {
    let length = prop_oneof![3 => 1..20_usize, 2 => 20..3000_usize, 1 => 3000..20_000_usize];
    prop::collection::vec((stream(), length), 1..60)
}

/// What a killed writer may leave at the very end.
#[derive(Debug, Clone)]
enum Tail {
    Nothing,
    /// A record, or a part of it, without its bytes.
    Record(StreamKind, u64),
    /// The runs of a segment without its bytes file.
    Runs,
}

fn tail() -> impl Strategy<Value = Tail> {
    prop_oneof![
        Just(Tail::Nothing),
        (stream(), 1..=RECORD_BYTES).prop_map(|(stream, length)| Tail::Record(stream, length)),
        Just(Tail::Runs),
    ]
}

/// Truncates a log as if its writer had been killed after `at` bytes.
fn cut(directory: &Path, model: &Model, at: u64, tail: &Tail) {
    let start = *starts(directory).expect("a log").last().expect("a segment");
    let bytes = File::options().write(true).open(bytes_path(directory, start)).expect("bytes");
    bytes.set_len(at - start).expect("cut");
    let path = runs_path(directory, start);
    let mut runs = fs::read(&path).expect("runs");
    let (_, records) = runs.split_at(HEADER_BYTES as usize);
    let (records, _) = records.as_chunks();
    let kept = records.iter().filter(|record| Record::of_bytes(**record).start < at).count() as u64;
    runs.truncate((HEADER_BYTES + kept * RECORD_BYTES) as usize);
    match tail {
        Tail::Nothing => {}
        Tail::Record(stream, length) => {
            runs.extend(&Record { start: at, stream: *stream }.to_bytes()[..*length as usize]);
        }
        Tail::Runs if at > start => {
            fs::write(runs_path(directory, at), header(model.totals[at as usize])).expect("written");
        }
        Tail::Runs => {}
    }
    fs::write(&path, runs).expect("cut");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Readers that come and go see everything that was written, during writing and after the writer was
    /// killed at any moment.
    #[test]
    fn what_was_written_is_read(
        pieces in pieces(),
        limit in prop_oneof![Just(0_u64), 32_768..200_000_u64, Just(64 << 20)],
        reads in prop::collection::vec((any::<prop::sample::Index>(), 1..70_000_usize), 60),
        cut_at in any::<prop::sample::Index>(),
        tail in tail(),
    ) {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("log");
        let model = Model::of(&pieces);
        let mut tailing = Reader::open(&directory);
        let mut tailed = 0;
        prop_assert_eq!(model.check(&mut tailing, 0, 100), (0, 0), "there is nothing yet");
        let mut writer = Writer::create(&directory, limit).expect("made");
        prop_assert_eq!(model.check(&mut tailing, 0, 100), (0, 0), "nor is there now");
        let mut at = 0;
        for ((_, length), (position, most)) in pieces.iter().zip(&reads) {
            append(&mut writer, &model, at, *length);
            at += length;
            prop_assert!(size(&directory) <= limit.max(32_768), "{} of {limit}", size(&directory));
            // A reader at a random position, one that follows, and a new one each time.
            let from = position.index(at + 1);
            prop_assert_eq!(model.check(&mut tailing, from, *most).0, at);
            prop_assert_eq!(model.check(&mut Reader::open(&directory), from, *most).0, at);
            if most % 3 == 0 {
                tailing.rest();
            }
            let (now, dropped) = model.check(&mut tailing, tailed, *most);
            prop_assert!(now == at && (dropped == 0 || limit < 200_000));
            tailed = now;
            let first = writer.first();
            let extent = Reader::open(&directory).extent().expect("readable");
            prop_assert_eq!(extent, Extent { first, end: model.totals[at] });
            let asked = tailing.totals_at(from as u64).expect("readable");
            prop_assert_eq!(asked, model.totals[from.max(first.sum() as usize)]);
        }
        drop(writer);

        let last = *starts(&directory).expect("a log").last().expect("a segment");
        let at = last + cut_at.index(at - last as usize + 1) as u64;
        cut(&directory, &model, at, &tail);
        let first = Reader::open(&directory).extent().expect("readable").first.sum() as usize;
        for (position, most) in &reads {
            let from = position.index(at as usize + 1);
            let (end, dropped) = model.check(&mut Reader::open(&directory), from, *most);
            prop_assert_eq!((end, dropped), (at as usize, first.saturating_sub(from)));
        }
        prop_assert_eq!(Reader::open(&directory).extent().expect("readable").end, model.totals[at as usize]);
    }
}

/// Readers on their own threads, beside a writer that drops segments before they were read.
#[test]
fn readers_keep_up_with_a_writer_or_are_told() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = Arc::new(place.path().join("log"));
    let pieces: Vec<_> =
        (0..20_000_usize).map(|n| (if n % 3 == 0 { Err } else { Out }, 1 + n * 7 % 200)).collect();
    let model = Arc::new(Model::of(&pieces));
    let written = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = [1, 100, 5_000, 65_536]
        .map(|most| {
            let (directory, model, written) =
                (Arc::clone(&directory), Arc::clone(&model), Arc::clone(&written));
            std::thread::spawn(move || {
                let (mut reader, mut at, mut dropped) = (Reader::open(&directory), 0, 0);
                loop {
                    let was_all = written.load(Ordering::Acquire);
                    let (now, gap) = model.check(&mut reader, at, most);
                    (at, dropped) = (now, dropped + gap);
                    if was_all {
                        return (at, dropped);
                    }
                }
            })
        })
        .into();
    let mut writer = Writer::create(&directory, 100_000).expect("made");
    let mut at = 0;
    for (_, length) in &pieces {
        append(&mut writer, &model, at, *length);
        at += length;
    }
    written.store(true, Ordering::Release);
    for reader in readers {
        let (end, dropped) = reader.join().expect("all it read was right");
        assert_eq!(end, at);
        assert!(dropped <= writer.first().sum() as usize, "told of {dropped} bytes");
    }
}

#[test]
fn a_log_that_was_taken_away_is_at_its_end() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().join("log");
    let model = Model::of(&[(Out, 10_000)]);
    let mut writer = Writer::create(&directory, 1 << 20).expect("made");
    append(&mut writer, &model, 0, 10_000);
    let mut reader = Reader::open(&directory);
    assert!(matches!(reader.read(0, 100).expect("readable"), Piece::Bytes { .. }));
    fs::remove_dir_all(&directory).expect("removed");
    assert_eq!(model.check(&mut reader, 100, 1000), (10_000, 0), "what is open can still be read");
    assert_eq!(Reader::open(&directory).read(0, 100).expect("nothing"), Piece::End);
    assert_eq!(Reader::open(&directory).extent().expect("nothing"), Extent::default());
}

/// Removed files below a directory that this process still has open.
fn held_though_removed(directory: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("open files").flatten();
    let names = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    names.filter(|name| name.starts_with(directory) && name.to_string_lossy().ends_with(" (deleted)")).count()
}

#[test]
fn a_reader_that_rests_takes_no_room_on_the_disk() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().join("log");
    let model = Model::of(&[(Out, 200_000)]);
    let mut writer = Writer::create(&directory, 0).expect("made");
    append(&mut writer, &model, 0, 1_000);
    let mut readers = [Reader::open(&directory), Reader::open(&directory)];
    for reader in &mut readers {
        assert_eq!(model.check(reader, 0, 500), (1_000, 0));
    }
    readers[0].rest();
    assert_eq!(model.check(&mut readers[0], 500, 500), (1_000, 0), "as if it had not rested");
    readers[0].rest();
    append(&mut writer, &model, 1_000, 199_000);
    assert_eq!(held_though_removed(&directory), 2, "the other one holds what it reads");
    readers[1].rest();
    assert_eq!(held_though_removed(&directory), 0);
    for reader in &mut readers {
        let (end, dropped) = model.check(reader, 1_000, 5_000);
        assert_eq!((end, dropped), (200_000, writer.first().sum() as usize - 1_000));
    }
}

/// The reader reports an error instead of searching forever.
#[test]
fn a_segment_without_its_runs_is_damage() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().join("log");
    let model = Model::of(&[(Out, 100)]);
    append(&mut Writer::create(&directory, 1 << 20).expect("made"), &model, 0, 100);
    fs::remove_file(runs_path(&directory, 0)).expect("removed");
    let mut reader = Reader::open(&directory);
    for error in [
        reader.read(0, 10).expect_err("damaged"),
        reader.extent().expect_err("damaged"),
        reader.totals_at(5).expect_err("damaged"),
    ] {
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("00000000000000000000.runs: it is missing"), "{error}");
    }
}

#[test]
fn a_segment_that_lost_its_end_is_damage() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().join("log");
    let model = Model::of(&[(Out, 10_000)]);
    let mut writer = Writer::create(&directory, 0).expect("made");
    append(&mut writer, &model, 0, 10_000);
    for left in [1_000, 0] {
        let bytes = File::options().write(true).open(bytes_path(&directory, 0)).expect("bytes");
        bytes.set_len(left).expect("cut");
        let error = Reader::open(&directory).read(left, 10).expect_err("damaged").to_string();
        assert!(error.contains(&format!("it ends at {left}, and what follows begins at ")), "{error}");
    }
    let next = starts(&directory).expect("a log")[1] as usize;
    assert_eq!(model.check(&mut Reader::open(&directory), next, 100), (10_000, 0), "the rest can be read");
}

#[test]
fn files_that_no_writer_writes_are_named() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().join("log");
    let model = Model::of(&[(Out, 100), (Err, 100), (Out, 100)]);
    for damage in [
        // A record that precedes its predecessor.
        |runs: &mut Vec<u8>| runs.extend(Record { start: 50, stream: Out }.to_bytes()),
        // No record, although there are bytes.
        |runs: &mut Vec<u8>| runs.truncate(HEADER_BYTES as usize),
        // An incomplete header.
        |runs: &mut Vec<u8>| runs.truncate(7),
        // The header of another segment.
        |runs: &mut Vec<u8>| runs[0] = 9,
    ] {
        let mut writer = Writer::create(&directory, 1 << 20).expect("made");
        let mut at = 0;
        for length in [100, 100, 100] {
            append(&mut writer, &model, at, length);
            at += length;
        }
        let mut runs = fs::read(runs_path(&directory, 0)).expect("runs");
        damage(&mut runs);
        fs::write(runs_path(&directory, 0), runs).expect("damaged");
        let mut reader = Reader::open(&directory);
        for _ in 0..3 {
            let error = reader.read(250, 10).expect_err("damaged, however often it is looked at");
            assert!(error.to_string().contains("00000000000000000000.runs: "), "{error}");
        }
    }
}
