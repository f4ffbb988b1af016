//! Files that somebody has damaged: whoever reads is told, and nobody waits for ever.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use peerbus::protocol::Ending;
use peerbus::protocol::attach::AttachFrom;
use peerbus::protocol::frame::StreamKind;
use serde_json::json;

use crate::durable::bench::{
    Counter, Heard, SOON, Watch, audited, directory, ending, exec, journalled, read_all, segment, shim_pid,
    start,
};
use crate::harness::fleet::Fleet;
use crate::harness::procs;
use crate::harness::wait::eventually;

#[track_caller]
fn why_unknown(heard: &Heard) -> String {
    match heard.outcome.as_ref().map(|outcome| &outcome.ending) {
        Some(Ending::Unknown { why }) => why.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_reads_a_damaged_log_is_told_so() {
    let fleet = Fleet::of_workers(["w1"]);
    let id = start(&fleet, "echo on; until [ -e go ]; do sleep 0.02; done; echo off; exit 7");
    Watch::attach(&fleet, &id, AttachFrom::Start).until("its first word", |heard| heard.out == b"on\n");
    // Of a job that runs.
    let runs = segment(&fleet, &id).with_extension("runs");
    let whole = fs::read(&runs).unwrap();
    fs::write(&runs, b"garbage").unwrap();
    for watch in [AttachFrom::Start, AttachFrom::Byte(1)].map(|from| Watch::attach(&fleet, &id, from)) {
        let why = why_unknown(&watch.end());
        let (named, goes_on) =
            (why.contains("00000000000000000000.runs: "), why.ends_with("the job goes on"));
        assert!(why.contains("cannot be read from byte 0 on") && named && goes_on, "{why}");
    }
    let place = fleet.command(["attach", &format!("w1/{id}")]).run().expect_code(251);
    assert!(place.err().contains("d: unknown: the output of ") && place.out().is_empty(), "{place:?}");
    fs::write(&runs, whole).unwrap();
    fs::write(fleet.path().join("go"), "").unwrap();
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 7}}));
    let heard = read_all(&fleet, &id);
    assert_eq!((heard.out.as_slice(), heard.code()), (b"on\noff\n".as_slice(), Some(7)));
    // Of one that has ended.
    fs::remove_file(&runs).unwrap();
    let heard = read_all(&fleet, &id);
    let why = why_unknown(&heard);
    assert!(why.contains(".runs: it is missing") && why.contains("the job has ended: "), "{why}");
    let bytes = segment(&fleet, &id);
    assert!(
        why.contains(&format!("the bytes themselves, of both streams, are in {}", bytes.display())),
        "{why}"
    );
    assert_eq!(fs::read(bytes).unwrap(), b"on\noff\n");
    assert_eq!((heard.resumed, heard.out.len()), (0, 0));
}

/// What was written is not there: that is not silence, nor old age.
#[test]
fn a_log_that_lost_its_end_is_told_of() {
    let fleet = Fleet::of_workers(["w1"]);
    let id = start(&fleet, "echo on; until [ -e go ]; do sleep 0.02; done; exit 7");
    Watch::attach(&fleet, &id, AttachFrom::Start).until("its first word", |heard| heard.out == b"on\n");
    let bytes = fs::File::options().write(true).open(segment(&fleet, &id)).unwrap();
    bytes.set_len(1).unwrap();
    let read = || Watch::attach(&fleet, &id, AttachFrom::Start).end();
    let heard = read();
    let why = why_unknown(&heard);
    let said = "cannot be read from byte 1 on: its log ends there, and more was written; ";
    assert!(why.ends_with(&format!("{said}the job goes on")) && heard.out == b"o", "{why}");
    fs::write(fleet.path().join("go"), "").unwrap();
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 7}}));
    let why = why_unknown(&read());
    assert!(why.contains(&format!("{said}the job has ended: ")), "{why}");
    // One that was dropped as a whole is no longer kept.
    fs::remove_dir_all(directory(&fleet, &id)).unwrap();
    let heard = read();
    assert_eq!(
        (heard.not_kept, heard.outcome.unwrap().ending),
        (vec![(StreamKind::Out, 3)], Ending::Exited { code: 7 })
    );
}

/// All that can be read is shown before.
#[test]
fn the_caller_gets_what_can_be_read_and_then_the_reason() {
    let fleet = Fleet::of_workers(["w1"]);
    let line = "seq 1 300000; until [ -e go ]; do sleep 0.02; done; seq 300001 600000";
    let mut live = exec(&fleet, &["--durable"], line).paused_output().spawn();
    let id = eventually(SOON, "its record", || journalled(&fleet, "open").pop());
    let whole = std::process::Command::new("seq").args(["1", "300000"]).output().unwrap().stdout;
    let bytes = segment(&fleet, &id);
    let logged = || fs::metadata(&bytes).is_ok_and(|log| log.len() as usize == whole.len());
    eventually(SOON, "its output in the log", || logged().then_some(()));
    let end = whole.len() - 1;
    let mut runs = fs::read(bytes.with_extension("runs")).unwrap();
    // From the last byte on it is nobody's.
    runs.extend(((end as u64) << 1).to_le_bytes());
    runs.extend(7_u64.to_le_bytes());
    fs::write(bytes.with_extension("runs"), runs).unwrap();
    live.stdout.resume();
    let finished = live.wait(SOON).expect_code(251);
    assert!(finished.err().contains("its records are out of order"), "{}", finished.err());
    assert_eq!(live.stdout.bytes().len(), end);
    assert!(whole.starts_with(&live.stdout.bytes()));
    fs::write(fleet.path().join("go"), "").unwrap();
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 0}}));
}

/// Where its processes live, the journal says.
#[test]
fn a_shim_that_left_garbage_leaves_no_process() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    Watch::attach(&fleet, &id, AttachFrom::Start).expect_more();
    let shim = shim_pid(&fleet, &id);
    daemon.kill9();
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    fs::write(directory(&fleet, &id).join("shim.json"), "").unwrap();
    daemon.start();
    daemon.wait_until_ready();
    let why = ending(&fleet, &id)["unknown"]["why"].as_str().map(str::to_owned);
    assert!(
        why.as_ref().is_some_and(|why| why.contains("its shim died: what it wrote of itself")),
        "{why:?}"
    );
    assert_eq!(procs::of_job(&id), []);
    assert_eq!(
        (audited(&fleet, &id), counter.pids().len()),
        (vec!["begun".to_owned(), "ended".to_owned()], 1)
    );
}

/// A daemon that is killed when it has written an ending, and not closed the record.
#[test]
fn an_ending_that_was_written_is_the_ending() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let id = start(&fleet, "sleep 1000 > /dev/null 2>&1 & echo $! > left; exit 3");
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 3}}));
    eventually(SOON, "the record to be closed", || journalled(&fleet, "open").is_empty().then_some(()));
    daemon.kill9();
    let record = |which: &str| daemon.state_directory().join("journal").join(which).join(&id);
    let written = fs::read_to_string(record("ended")).unwrap();
    assert!(written.contains("\"left_running\":1"), "{written}");
    fs::rename(record("ended"), record("open")).unwrap();
    daemon.start();
    daemon.wait_until_ready();
    let left: i32 = fs::read_to_string(fleet.path().join("left")).unwrap().trim().parse().unwrap();
    let process = procs::look_at(left).expect("what it left running goes on");
    assert_eq!(audited(&fleet, &id), ["begun", "ended"]);
    assert!(journalled(&fleet, "open").is_empty());
    assert_eq!(fs::read_to_string(record("ended")).unwrap().trim_end(), written.trim_end());
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 3}}));
    procs::kill_all(&[process]);
}
