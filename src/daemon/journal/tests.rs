//! Records as they are written, torn, forgotten and read again.

use std::time::SystemTime;

use super::forgetting::prune;
use super::*;
use crate::protocol::Ending;

fn begun(id: JobId) -> Begun {
    Begun {
        id,
        instance: Instance::new(),
        caller: "_INBOX.x".into(),
        request: "digest".into(),
        from: None,
        asker: None,
        standing: None,
        at: now(),
        command: "true".into(),
        directory: "/".into(),
        user: None,
        lodging: None,
        queued: false,
    }
}

fn result(id: JobId) -> JobResult {
    let peer = "w1".parse().expect("valid");
    JobResult::bare(Some(id), peer, Instance::new(), Ending::Exited { code: 7 })
}

/// What earlier daemons wrote has to be read by later ones.
#[test]
fn a_record_is_written_and_read_letter_by_letter() {
    let golden = include_str!("../../../tests/golden/journal_record.jsonl");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("record");
    let mut again = File::create(&path).expect("made");
    for line in golden.lines() {
        let step: Step = decode::json(line.as_bytes()).expect(line);
        write_step(&mut again, &step).expect("written");
    }
    assert_eq!(fs::read_to_string(&path).expect("readable"), golden);
    let record = read_record(&path).expect("a record");
    assert_eq!(record.begun.command, "git pull");
    assert_eq!(record.process.expect("started").pid, 4711);
    assert_eq!(record.result.expect("ended").ending, Ending::Exited { code: 7 });
    // A later version may add fields, and steps are still told apart.
    let later = golden.replace("{\"step\"", "{\"later\":{\"a\":[1]},\"step\"");
    fs::write(&path, later).expect("written");
    assert_eq!(read_record(&path).expect("a record").begun, record.begun);
}

#[test]
fn an_id_begins_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("opens");
    let id = JobId::new();
    let entry = journal.begin(&begun(id)).expect("first");
    assert_eq!(journal.begin(&begun(id)).expect_err("second").kind(), io::ErrorKind::AlreadyExists);
    entry.ended(&result(id)).expect("ends");
    assert_eq!(journal.begin(&begun(id)).expect_err("third").kind(), io::ErrorKind::AlreadyExists);
    let record = journal.find(id).expect("readable").expect("known");
    assert_eq!(record.result.expect("ended").ending, Ending::Exited { code: 7 });
    assert!(journal.left_open().expect("readable").is_empty());
}

#[test]
fn what_a_crash_cut_off_did_not_happen() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("opens");
    let id = JobId::new();
    let mut entry = journal.begin(&begun(id)).expect("begins");
    let process = Identity::of_self().expect("our own");
    entry.started(&process).expect("starts");
    entry.file.write_all(br#"{"step":"ended","at":"2026-"#).expect("a torn line");
    drop(entry);
    let (entry, record) = journal.left_open().expect("readable").pop().expect("one is open");
    assert_eq!((record.process, record.result), (Some(process), None));
    entry.ended_for_another(&result(id)).expect("ends");
    let record = journal.find(id).expect("readable").expect("known");
    assert_eq!(record.result.expect("ended").ending, Ending::Exited { code: 7 });
}

#[test]
fn a_record_that_is_no_record_stays_known() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("opens");
    let id = JobId::new();
    fs::write(journal.open.join(id.to_string()), b"garbage").expect("written");
    assert!(journal.left_open().expect("readable").is_empty());
    assert_eq!(journal.begin(&begun(id)).expect_err("known").kind(), io::ErrorKind::AlreadyExists);
    assert!(journal.find(id).is_err());
}

#[test]
fn the_oldest_are_forgotten_first() {
    let dir = tempfile::tempdir().expect("a directory");
    for (index, name) in ["old", "newer", "newest"].into_iter().enumerate() {
        let file = File::create(dir.path().join(name)).expect("made");
        let written = SystemTime::now() - Duration::from_secs(100 - index as u64);
        file.set_modified(written).expect("set");
    }
    prune(dir.path(), Duration::from_secs(3600), 2).expect("pruned");
    assert!(!dir.path().join("old").exists() && dir.path().join("newest").exists());
    prune(dir.path(), Duration::from_secs(1), 2).expect("pruned");
    assert!(!dir.path().join("newest").exists());
}
