//! What daemon and shim say, and what is on the disk, letter by letter: either may be of a version that was
//! released long ago.

use std::fmt::Debug;
use std::fs;

use bytes::Bytes;
use peerbus::protocol::frame::StreamKind;
use peerbus::shim::log::Writer;
use peerbus::shim::messages::ShimInfo;
use peerbus::shim::{FromShim, ToShim};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Each line is understood and said again as it was, also when a later version has added to it.
fn are_said_as_ever<T: Serialize + DeserializeOwned + PartialEq + Debug>(golden: &str) {
    assert!(!golden.is_empty());
    for line in golden.lines() {
        let word: T = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(serde_json::to_string(&word).expect("text"), line);
        let later: Value = serde_json::from_str(line).expect("JSON");
        let later = with_more(later);
        let understood: T =
            serde_json::from_value(later.clone()).unwrap_or_else(|error| panic!("{later}: {error}"));
        assert_eq!(understood, word);
    }
}

/// The same with one more field wherever there may be one, but not beside the word itself, nor in what names
/// one of several things.
fn with_more(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let is_a_choice = fields.len() == 1;
            let mut fields: serde_json::Map<String, Value> =
                fields.into_iter().map(|(name, value)| (name, with_more(value))).collect();
            if !is_a_choice {
                fields.insert("later".to_owned(), json!([{"a": 1}]));
            }
            Value::Object(fields)
        }
        Value::Array(values) => values.into_iter().map(with_more).collect(),
        other => other,
    }
}

#[test]
fn words_are_said_as_ever() {
    are_said_as_ever::<ToShim>(include_str!("../../golden/shim_to.jsonl"));
    are_said_as_ever::<FromShim>(include_str!("../../golden/shim_from.jsonl"));
    are_said_as_ever::<ShimInfo>(include_str!("../../golden/shim_about.jsonl"));
}

#[test]
fn a_log_is_written_as_ever() {
    let place = tempfile::tempdir().expect("a directory");
    let log = place.path().join("log");
    let mut writer = Writer::create(&log, 0).expect("made");
    let mut append = |stream, bytes: &[u8]| {
        writer.append(stream, &mut Bytes::copy_from_slice(bytes)).expect("written");
    };
    append(StreamKind::Out, b"one\n");
    append(StreamKind::Out, b"two\n");
    append(StreamKind::Err, b"oops\n");
    append(StreamKind::Out, &[b'x'; 5000]);
    let numbers = |name: &str| -> Vec<u64> {
        let file = fs::read(log.join(name)).expect("a file");
        file.chunks(8).map(|chunk| u64::from_le_bytes(chunk.try_into().expect("8 bytes"))).collect()
    };
    let mut names: Vec<String> = fs::read_dir(&log)
        .expect("a log")
        .map(|file| file.expect("a file").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    // A segment of 4096 bytes, 40 of them for its runs.
    let second = "00000000000000004056";
    let first = "00000000000000000000";
    assert_eq!(names, [first, &format!("{first}.runs"), second, &format!("{second}.runs")]);
    assert_eq!(numbers(&format!("{first}.runs")), [0, 0, 0, (8 << 1) | 1, 13 << 1]);
    assert_eq!(numbers(&format!("{second}.runs")), [4051, 5, 4056 << 1]);
    assert!(fs::read(log.join(first)).expect("bytes").starts_with(b"one\ntwo\noops\nxxx"));
    assert_eq!(fs::metadata(log.join(second)).expect("bytes").len(), 5013 - 4056);
}
