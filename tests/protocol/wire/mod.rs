//! The wire, letter by letter: `tests/golden/` holds one message of every kind, as it travels.
//!
//! Each file is what its value is encoded to, byte for byte (and a line end), and is decoded to that
//! value again; with fields in it that only a later version knows, too. Whoever changes one of these
//! files changes what other versions have to understand.

mod audit;
mod fleet;
mod jobs;
mod listing;
mod names;
mod peers;
mod policy;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use peerbus::protocol::{BadMessage, Instance, JobId, PeerId, decode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const JOB: &str = "0197c0de-0000-7000-8000-00000000cafe";
const INSTANCE: &str = "11111111-2222-4333-8444-555555555555";

fn job() -> JobId {
    JOB.parse().unwrap()
}

fn instance() -> Instance {
    INSTANCE.parse().unwrap()
}

fn peer(id: &str) -> PeerId {
    id.parse().unwrap()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The file's text, without its line end.
#[track_caller]
fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.strip_suffix('\n').expect("a line end").to_owned()
}

/// Checks one message against its file, in both directions.
#[track_caller]
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    golden_by(name, value, decode::json);
}

/// The same for a message that has a decoder of its own.
#[track_caller]
fn golden_by<T: Serialize + PartialEq + Debug>(
    name: &str,
    value: &T,
    decode: impl Fn(&[u8]) -> Result<T, BadMessage>,
) {
    let text = file(name);
    let encoded = String::from_utf8(decode::to_json(value)).unwrap();
    assert_eq!(encoded, text, "{name} is encoded otherwise");
    assert_eq!(decode(text.as_bytes()).as_ref(), Ok(value), "{name} is decoded otherwise");
    let later = with_later_fields(serde_json::from_str(&text).unwrap(), "").to_string();
    assert_ne!(later, text);
    assert_eq!(decode(later.as_bytes()).as_ref(), Ok(value), "{name} with fields of a later version");
}

/// Puts a field nobody knows into every object that is a message or a part of one. `env`, `locale` and
/// `metadata` have names of their own, and an ending and a decision have exactly one.
fn with_later_fields(value: Value, key: &str) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: serde_json::Map<String, Value> = fields
                .into_iter()
                .map(|(key, value)| {
                    let value = with_later_fields(value, &key);
                    (key, value)
                })
                .collect();
            if !["env", "locale", "metadata", "ending", "decision"].contains(&key) {
                fields.insert("a_later_field".to_owned(), json!({ "of": ["a", "later", "version"] }));
            }
            Value::Object(fields)
        }
        Value::Array(items) => items.into_iter().map(|item| with_later_fields(item, "")).collect(),
        other => other,
    }
}

/// Checks a part of a message, in both directions.
#[track_caller]
fn part<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, text: &str) {
    assert_eq!(String::from_utf8(decode::to_json(value)).unwrap(), text);
    assert_eq!(&serde_json::from_str::<T>(text).unwrap(), value);
}

#[test]
fn every_file_is_somebodys() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files: BTreeSet<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // The journal is nobody's business but the daemon's, and what it says to shims theirs: lines, held to elsewhere.
    let lines =
        [include_str!("../../../src/daemon/journal/tests.rs"), include_str!("../../jobs/shim/golden.rs")]
            .concat();
    let own = [
        include_str!("audit.rs"),
        include_str!("jobs.rs"),
        include_str!("listing.rs"),
        include_str!("peers.rs"),
        include_str!("fleet.rs"),
        include_str!("policy.rs"),
    ]
    .concat();
    for file in &files {
        let checked = match file.strip_suffix(".json") {
            Some(name) => own.contains(&format!("\"{name}\"")),
            None => lines.contains(&format!("golden/{file}\"")),
        };
        assert!(checked, "{file} is checked by nobody");
    }
    assert!(files.contains("journal_record.jsonl"));
}
