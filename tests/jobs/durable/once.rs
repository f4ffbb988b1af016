//! A durable job runs once, wherever its daemon dies on the way.

use std::fs;
use std::path::{Path, PathBuf};

use peerbus::protocol::attach::AttachFrom;
use serde_json::{Value, json};

use crate::durable::bench::{
    Counter, SOON, Watch, audited, ending, exec, job_id, journalled, lines, read_all, request, start,
};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::procs;
use crate::harness::relay::Direction;
use crate::harness::wait::eventually;

fn accepted_is_lost(containment: &str) {
    let options = DaemonOptions::worker("w1").env("PEERBUS_CONTAINMENT", containment).through_relay();
    let fleet = Fleet::builder().daemon(options).start();
    let daemon = fleet.daemon("w1");
    let counter = Counter::new(&fleet, "c");
    // The request comes through, and nothing the daemon says.
    daemon.relay().freeze_way(Direction::ToServer);
    let mut live = exec(&fleet, &["--durable"], &counter.line()).spawn();
    eventually(SOON, "the command to begin", || (!counter.pids().is_empty()).then_some(()));
    daemon.kill9();
    daemon.relay().heal();
    daemon.start();
    daemon.wait_until_ready();
    live.stdout_line(SOON, |line| line == "line 5");
    counter.stop();
    let finished = live.wait(SOON).expect_code(7);
    Counter::expect_whole(finished.out().as_bytes(), finished.err().as_bytes());
    assert_eq!(counter.pids().len(), 1, "it never ran again");
}

#[test]
fn a_daemon_that_dies_between_start_and_accepted_has_a_successor_that_goes_on() {
    accepted_is_lost("best");
}

#[test]
fn a_daemon_that_dies_between_start_and_accepted_has_a_successor_that_goes_on_with_reapers() {
    accepted_is_lost("reaper");
}

#[test]
fn the_same_request_again_shows_the_same_job() {
    let fleet = Fleet::of_workers(["w1"]);
    let id = job_id();
    let line = "echo $$ >> ran; until [ -e go ]; do sleep 0.02; done; seq 1 1000";
    let mut asked = request(&fleet, &id, line);
    asked["stream"] = json!({"window": 1 << 20});
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    let heard = raw.subscribe(&inbox);
    for _ in 0..3 {
        raw.publish_reply("exec.w1", &inbox, asked.to_string());
        let frame = raw.expect_on(heard, SOON, "accepted");
        assert_eq!(
            (frame.header("D-Kind"), frame.header("D-Seq")),
            (Some("accepted"), Some("1")),
            "{frame:?}"
        );
    }
    // Somebody else with the same words reads along; other words under the same id are refused.
    let other = raw.new_inbox();
    let others = raw.subscribe(&other);
    raw.publish_reply("exec.w1", &other, asked.to_string());
    assert_eq!(raw.expect_on(others, SOON, "accepted").header("D-Kind"), Some("accepted"));
    asked["shell_cmd"] = json!("echo ran >> other");
    let refused = raw.new_inbox();
    let refusal = raw.subscribe(&refused);
    raw.publish_reply("exec.w1", &refused, asked.to_string());
    raw.expect_on(refusal, SOON, "accepted");
    let result = raw.expect_on(refusal, SOON, "the refusal").json();
    assert_eq!(result["ending"]["refused"]["why"], "not_yours", "{result}");
    fs::write(fleet.path().join("go"), "").unwrap();
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 0}}));
    assert_eq!(lines(&fleet.path().join("ran")), 1);
    assert!(!fleet.path().join("other").exists());
}

/// The record of a durable job whose daemon died, as that would have left it, before it had done anything else.
fn journalled_only(fleet: &Fleet, id: &str, request: &Value) -> PathBuf {
    let state = fleet.directory("state-w1");
    for place in ["journal/open", "journal/ended", "journal/results", "reapers"] {
        fs::create_dir_all(state.join(place)).unwrap();
    }
    let step = json!({
        "step": "begun", "id": id, "instance": uuid::Uuid::new_v4().to_string(), "caller": "_INBOX.x.y",
        "request": blake3::hash(request.to_string().as_bytes()).to_hex().to_string(),
        "at": "2026-01-01T00:00:00Z", "command": "echo ran >> ran", "directory": "/", "user": null,
        "job_scope": {"reaper": {"lock": state.join(format!("reapers/{id}.lock"))}}, "durable": true,
    });
    fs::write(state.join("journal/open").join(id), format!("{step}\n{}", "\n".repeat(6 * 1024))).unwrap();
    state
}

fn never_started(prepare: impl FnOnce(&Path)) {
    let fleet = Fleet::builder().start();
    let id = job_id();
    let asked = request(&fleet, &id, "echo ran >> ran");
    let state = journalled_only(&fleet, &id, &asked);
    prepare(&state.join("jobs").join(&id));
    fleet.add(DaemonOptions::worker("w1"));
    let why = "its daemon died before it was started; nothing ran";
    assert_eq!(ending(&fleet, &id), json!({"not_started": {"why": "system", "message": why}}));
    let again = Raw::connect(&fleet.url()).request("exec.w1", asked.to_string(), SOON);
    assert_eq!(again.header("Nats-Service-Error"), Some("not_started"), "{again:?}");
    assert!(!fleet.path().join("ran").exists(), "a repeat of it does not run either");
    assert_eq!(journalled(&fleet, "open"), [""; 0]);
}

#[test]
fn a_daemon_that_dies_before_it_made_a_shim_has_a_successor_that_says_that_nothing_ran() {
    never_started(|_| ());
    // With the place of the shim, and a lock that nobody holds.
    never_started(|place| {
        fs::create_dir_all(place).unwrap();
        fs::write(place.join("lock"), "").unwrap();
    });
}

/// A cgroup that is frozen holds a new process before its first instruction: so the daemon is killed after its shim
/// was made, and before the command has begun.
#[test]
fn a_daemon_that_dies_between_shim_and_start_has_a_successor_that_goes_on() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let cgroups = cgroups_of(&fleet);
    let id = job_id();
    let place = cgroups.join(format!("job-{id}"));
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("cgroup.freeze"), "1").unwrap();
    let counter = Counter::new(&fleet, "c");
    let asked = request(&fleet, &id, &counter.line()).to_string();
    let mut raw = Raw::connect(&fleet.url());
    raw.publish_reply("exec.w1", "_INBOX.nobody.1", &asked);
    eventually(SOON, "the process to be made", || {
        fs::read_to_string(place.join("cgroup.procs")).ok().filter(|pids| !pids.is_empty())
    });
    daemon.kill9();
    daemon.start();
    fs::write(place.join("cgroup.freeze"), "0").unwrap();
    daemon.wait_until_ready();
    assert_eq!(raw.request("exec.w1", &asked, SOON).json()["type"], "peerbus.started.v1");
    let watch = Watch::attach(&fleet, &id, AttachFrom::Start);
    watch.expect_more();
    counter.stop();
    let heard = watch.end();
    assert_eq!(heard.code(), Some(7), "{:?}", heard.outcome);
    Counter::expect_whole(&heard.out, &heard.err);
    assert_eq!(counter.pids().len(), 1);
    assert_eq!(audited(&fleet, &id), ["begun", "ended"]);
}

/// The directory of the cgroups of the daemon's jobs.
#[track_caller]
fn cgroups_of(fleet: &Fleet) -> PathBuf {
    let own = exec(fleet, &[], "cat /proc/self/cgroup").run().expect_success().out();
    let path =
        own.lines().find_map(|line| line.strip_prefix("0::/")).and_then(|path| path.rsplit_once("/job-"));
    let below = path.expect(
        "cgroups of version 2 are missing: the daemon could make none for its jobs; run the tests as root \
         where cgroup2 is mounted, or in a cgroup that is delegated",
    );
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|mount| mount[2] == "cgroup2").expect("cgroup2 is mounted");
    Path::new(mount[1]).join(below.0)
}

#[test]
fn a_job_called_off_before_its_request_came_never_runs() {
    let fleet = Fleet::of_workers(["w1"]);
    let id = job_id();
    let mut raw = Raw::connect(&fleet.url());
    let answer = raw.request(&format!("exec.w1.{id}.cancel"), "", SOON).json();
    assert_eq!(answer["answer"], "never_seen", "{answer}");
    let late = raw.request("exec.w1", request(&fleet, &id, "echo ran >> ran").to_string(), SOON);
    assert_eq!(late.json()["ending"]["refused"]["why"], "cancelled_before", "{late:?}");
    let attached = read_all(&fleet, &id);
    assert!(format!("{:?}", attached.outcome).contains("NotDurable"), "{attached:?}");
    assert!(!fleet.path().join("ran").exists());
}

#[test]
fn what_outlives_its_daemon_is_not_found_twice() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    eventually(SOON, "the command to begin", || (!counter.pids().is_empty()).then_some(()));
    for _ in 0..3 {
        daemon.kill9();
        daemon.start();
    }
    daemon.wait_until_ready();
    assert_eq!(procs::of_job(&id).iter().filter(|process| counter.pids().contains(&process.pid)).count(), 1);
    counter.stop();
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 7}}));
    assert_eq!(audited(&fleet, &id), ["begun", "ended"]);
}
