//! What the cases have in common: fleets, jobs with known ids, and looks at what is listed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::child::Live;
use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;
use crate::harness::wait::eventually;

/// Long enough for anything that must happen, on a busy machine too.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) fn job_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// The end of an id that is shown.
pub(crate) fn short(job: &str) -> &str {
    &job[28..]
}

/// A leader and three workers, all of them known to be there.
#[track_caller]
pub(crate) fn three() -> Fleet {
    let fleet = Fleet::builder().leader("lead").worker("w1").worker("w2").worker("w3").start();
    all_are_known(&fleet, 4);
    fleet
}

/// Waits until the leader knows so many peers to be there.
#[track_caller]
pub(crate) fn all_are_known(fleet: &Fleet, count: usize) {
    eventually(SOON, "all peers to be online", || {
        let shown = fleet.d(["peers", "--json"]).expect_success().out();
        (shown.lines().filter(|line| line.contains(r#""is_online":true"#)).count() == count).then_some(())
    });
}

/// A job under an id of the test's own, whose answer nobody waits for; returns when it runs.
#[track_caller]
pub(crate) fn start_as(fleet: &Fleet, peer: &str, job: &str, line: &str) {
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    raw.subscribe(&inbox);
    let request = json!({ "id": job, "shell_cmd": line, "directory": "/", "from": "ann@desk" });
    raw.publish_reply(&format!("exec.{peer}"), &inbox, request.to_string());
    eventually(SOON, "the job to be listed", || {
        let answer =
            raw.request(&format!("exec.{peer}.jobs"), json!({ "match": job }).to_string(), SOON).json();
        answer["jobs"].as_array().expect("jobs").iter().any(|it| it["id"] == job).then_some(())
    });
}

/// The same under a new id, which is returned.
#[track_caller]
pub(crate) fn start(fleet: &Fleet, peer: &str, line: &str) -> String {
    let job = job_id();
    start_as(fleet, peer, &job, line);
    job
}

/// A job that is over: its id.
#[track_caller]
pub(crate) fn run_as(fleet: &Fleet, peer: &str, job: &str, line: &str) {
    let request = json!({ "id": job, "shell_cmd": line, "directory": "/", "from": "ann@desk" });
    let answer = Raw::connect(&fleet.url()).request(&format!("exec.{peer}"), request.to_string(), SOON);
    assert!(answer.json()["ending"].is_object(), "{answer:?}");
}

/// The same under a new id, which is returned.
#[track_caller]
pub(crate) fn run(fleet: &Fleet, peer: &str, line: &str) -> String {
    let job = job_id();
    run_as(fleet, peer, &job, line);
    job
}

/// A durable job that nobody follows: its id.
#[track_caller]
pub(crate) fn detached(fleet: &Fleet, peer: &str, line: &str) -> String {
    fleet.d(["exec", "-d", peer, "-C", "/", "--sh", line]).expect_success().out().trim().to_owned()
}

/// `d jobs --json` with these arguments, which is to succeed.
#[track_caller]
pub(crate) fn listed(fleet: &Fleet, arguments: &[&str]) -> Vec<Value> {
    let all = ["jobs", "--json"].iter().chain(arguments);
    rows(&fleet.d(all).expect_success().out())
}

pub(crate) fn rows(shown: &str) -> Vec<Value> {
    shown.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// The ids of some rows.
pub(crate) fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["id"].as_str().expect("an id")).collect()
}

/// `d wait`, which has asked by then: the daemon holds its answer back.
#[track_caller]
pub(crate) fn held_back(fleet: &Fleet, job: &str) -> Live {
    let mut raw = Raw::connect(&fleet.url());
    let sid = raw.subscribe("exec.*.jobs");
    raw.barrier();
    let waiting = fleet.spawn_d(["wait", job]);
    // Others may ask the same about jobs of theirs.
    let id = job.rsplit('/').next().unwrap();
    let is_held_back = |question: &str| question.contains(r#""wait_ms":5000"#) && question.contains(id);
    while !is_held_back(&raw.expect_on(sid, SOON, "the question").text()) {}
    waiting
}
