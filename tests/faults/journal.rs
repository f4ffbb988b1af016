//! Records that a dead daemon left behind, made by hand as it would have written them, and records
//! that are broken.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bench::{SOON, job_id, kept, plain, refusal, request};
use crate::harness::child::{Live, piped};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::procs;

/// A fleet without its worker, whose state directory can be prepared.
fn prepared() -> (Fleet, PathBuf) {
    let fleet = Fleet::builder().start();
    let state = fleet.directory("state-w1");
    for place in ["journal/open", "journal/ended", "journal/results", "reapers"] {
        fs::create_dir_all(state.join(place)).unwrap();
    }
    (fleet, state)
}

/// The first line of a record, with the room for more behind it.
fn begun(state: &std::path::Path, id: &str, request: &Value) -> String {
    let lock = state.join(format!("reapers/{id}.lock"));
    let step = json!({
        "step": "begun", "id": id, "instance": uuid::Uuid::new_v4().to_string(), "caller": "_INBOX.x.y",
        "request": blake3::hash(request.to_string().as_bytes()).to_hex().to_string(),
        "at": "2026-01-01T00:00:00Z", "command": "echo ran >> ran", "directory": "/", "user": null,
        "job_scope": {"reaper": {"lock": lock}},
    });
    format!("{step}\n")
}

#[track_caller]
fn expect_unknown(fleet: &Fleet, id: &str, request: &Value, why: &str) {
    let mut raw = Raw::connect(&fleet.url());
    for answer in [kept(fleet, id), raw.request("exec.w1", request.to_string(), SOON)] {
        let said = answer.json()["ending"]["unknown"]["why"].as_str().unwrap_or_default().to_owned();
        assert!(said.contains(why), "{answer:?}");
    }
    raw.publish_reply(&format!("exec.w1.{id}.cancel"), "_INBOX.x.z", "{}");
    assert_eq!(plain(fleet, "echo on").json()["stdout"], "on\n");
    assert!(!fleet.path().join("ran").exists(), "it never ran");
}

#[test]
fn a_job_that_was_only_journalled_is_unknown_and_never_runs() {
    let (fleet, state) = prepared();
    let id = job_id();
    let request = request(&fleet, &id, "echo ran >> ran");
    let room = "\n".repeat(6 * 1024);
    fs::write(state.join("journal/open").join(&id), begun(&state, &id, &request) + &room).unwrap();
    let daemon = fleet.add(DaemonOptions::worker("w1"));
    expect_unknown(&fleet, &id, &request, "before its start was written down");
    assert!(state.join("journal/ended").join(&id).exists() && !state.join("journal/open").join(&id).exists());
    // Once more: its successors say the same.
    daemon.kill9();
    daemon.restart();
    expect_unknown(&fleet, &id, &request, "before its start was written down");
}

#[test]
fn what_is_left_of_a_dead_daemons_job_is_gone_before_the_next_is_ready() {
    let (fleet, state) = prepared();
    let (id, marker) = (job_id(), procs::marker());
    let request = request(&fleet, &id, "echo ran >> ran");
    let mut command = piped("sh");
    // Deaf to TERM, so that it takes a while; with a child in a session of its own.
    let deaf = "trap \"\" TERM; while :; do sleep 0.2; done";
    command
        .args(["-c", &format!("setsid sh -c '{deaf}' {marker} & {deaf}"), &marker])
        .env("PEERBUS_JOB", &id)
        .stdout(Stdio::null());
    let live = Live::start("what is left", command).unwrap();
    procs::wait_until_running(&marker, 2, SOON);
    let process = json!({
        "pid": live.pid(), "start_time": procs::look_at(live.pid()).unwrap().started,
        "boot_id": fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim(),
    });
    let started = json!({"step": "started", "at": "2026-01-01T00:00:00Z", "process": process});
    let record = format!("{}{started}\n{{\"step\":\"ended\",\"at\":\"20", begun(&state, &id, &request));
    fs::write(state.join("journal/open").join(&id), record).unwrap();
    fs::write(state.join(format!("reapers/{id}.lock")), "").unwrap();
    let daemon = fleet.add_starting(DaemonOptions::worker("w1"));
    daemon.wait_until_ready();
    assert_eq!(procs::with_argument(&marker), [], "nothing is left when it says it is ready");
    expect_unknown(&fleet, &id, &request, &format!("while it ran as process {}", live.pid()));
    let result = kept(&fleet, &id).json();
    assert!(result["killed"].as_u64().unwrap() >= 2, "{result}");
}

#[test]
fn a_broken_record_stays_known_and_harms_no_other() {
    let (fleet, state) = prepared();
    let (empty, binary, whole, ended) = (job_id(), job_id(), job_id(), job_id());
    let requests = |id: &str| request(&fleet, id, "echo ran >> ran");
    let open = |id: &str| state.join("journal/open").join(id);
    fs::write(open(&empty), "").unwrap();
    fs::write(open(&binary), b"\xff\x00\x01 no record").unwrap();
    fs::write(open(&whole), begun(&state, &whole, &requests(&whole))).unwrap();
    fs::write(open("not-an-id"), "left by someone").unwrap();
    fs::write(state.join("journal/ended").join(&ended), "{\"step\":").unwrap();
    let daemon = fleet.add(DaemonOptions::worker("w1"));
    assert!(daemon.stderr().contains(&binary), "it says which: {}", daemon.stderr());
    expect_unknown(&fleet, &whole, &requests(&whole), "before its start was written down");
    let mut raw = Raw::connect(&fleet.url());
    for id in [&empty, &binary, &ended] {
        let answer = raw.request("exec.w1", requests(id).to_string(), SOON);
        assert_eq!(refusal(&answer).as_deref(), Some("journal"), "{answer:?}");
        assert!(answer.json()["message"].as_str().unwrap().contains(id.as_str()), "{answer:?}");
        assert_eq!(kept(&fleet, id).json()["error"], "journal");
    }
    assert!(!fleet.path().join("ran").exists());
}

#[test]
fn a_corrupt_state_file_is_moved_aside_and_said() {
    let (fleet, state) = prepared();
    fs::write(state.join("state.json"), b"{\"type\":\"peerbus.daemon\xff").unwrap();
    let daemon = fleet.add(DaemonOptions::worker("w1"));
    daemon.wait_for_line(SOON, |line| line.contains("corrupt") && line.contains("moved aside"));
    let names: Vec<_> = fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let aside = names.iter().find(|name| name.starts_with("state.broken-")).expect("the old file");
    assert_eq!(fs::read(state.join(aside)).unwrap(), b"{\"type\":\"peerbus.daemon\xff");
    let now: Value = serde_json::from_slice(&fs::read(state.join("state.json")).unwrap()).unwrap();
    assert_eq!(now["state"], "ready");
}

/// Nothing of ours is a directory there: one that somebody has made is left alone, and hides nothing.
#[test]
fn a_stray_directory_among_the_records_hides_no_job() {
    let (fleet, state) = prepared();
    let stray: Vec<PathBuf> =
        ["open", "ended", "results"].map(|place| state.join("journal").join(place).join(job_id())).into();
    let new = state.join("journal/new/lost");
    for directory in stray.iter().chain([&new]) {
        fs::create_dir_all(directory).unwrap();
    }
    fs::create_dir_all(state.join("jobs")).unwrap();
    fs::write(state.join("jobs").join(job_id()), "").unwrap();
    let daemon = fleet.add(DaemonOptions::worker("w1"));
    for _ in 0..2 {
        assert_eq!(plain(&fleet, "echo on").json()["stdout"], "on\n");
        let listed = fleet.d(["jobs", "w1", "-a"]).expect_success();
        assert!(listed.out().contains("echo on"), "{listed:?}");
        daemon.restart();
    }
    assert!(stray.iter().all(|directory| directory.is_dir()));
    // An id that is taken so is known, and never runs.
    let id = stray[0].file_name().unwrap().to_str().unwrap();
    let asked = request(&fleet, id, "echo ran >> ran").to_string();
    let answer = Raw::connect(&fleet.url()).request("exec.w1", &asked, SOON).json();
    assert!(answer["ending"]["exited"].is_null(), "{answer}");
    assert!(!fleet.path().join("ran").exists());
}
