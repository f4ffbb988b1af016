//! Daemons that are killed at every step, and what their successors say and do.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::bench::{
    SOON, WAITING, cgroups_of, exec, job_id, journalled, kept, lines, plain, request, wait_until_ran,
};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::procs;
use crate::harness::relay::Direction;
use crate::harness::wait::eventually;

fn worker(containment: &str) -> DaemonOptions {
    DaemonOptions::worker("w1").env("PEERBUS_CONTAINMENT", containment)
}

/// A command with a child that began a session of its own, both deaf to TERM.
fn deaf(marker: &str) -> String {
    let deaf = format!("sh -c 'trap \"\" TERM HUP INT; while :; do sleep 0.2; done' {marker}");
    format!("echo $$ >> ran; setsid {deaf} & {deaf}")
}

fn dies_during_a_job(containment: &str) {
    let fleet = Fleet::builder().daemon(worker(containment)).start();
    let daemon = fleet.daemon("w1");
    let marker = procs::marker();
    let mut live = exec(&fleet, &deaf(&marker)).spawn();
    procs::wait_until_running(&marker, 3, SOON);
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    assert_eq!(procs::with_argument(&marker), [], "nothing is left when it says it is ready");
    let finished = live.wait(SOON).expect_code(251);
    assert!(finished.err().contains("d: unknown: its daemon died while it ran"), "{finished:?}");
    let id = journalled(&fleet, "ended").pop().unwrap();
    assert!(finished.err().contains(&format!("exec.w1.{id}.result")), "{finished:?}");
    let result = kept(&fleet, &id).json();
    assert!(result["ending"]["unknown"]["why"].as_str().unwrap().contains("died"), "{result}");
    assert_eq!(result["out"], json!(null), "{result}");
    assert_eq!(journalled(&fleet, "open"), [""; 0]);
    assert_eq!(lines(&fleet.path().join("ran")), 1, "it never ran again");
}

#[test]
fn a_daemon_that_dies_during_a_job_has_a_successor_that_says_so() {
    dies_during_a_job("best");
}

#[test]
fn a_daemon_that_dies_during_a_job_has_a_successor_that_says_so_with_reapers() {
    dies_during_a_job("reaper");
}

fn dies_before_it_accepts(containment: &str) {
    let fleet = Fleet::builder().daemon(worker(containment).through_relay()).start();
    let daemon = fleet.daemon("w1");
    // The request comes through, and nothing the daemon says.
    daemon.relay().freeze_way(Direction::ToServer);
    let mut live = exec(&fleet, WAITING).spawn();
    wait_until_ran(&fleet);
    daemon.kill9();
    daemon.relay().heal();
    daemon.start();
    daemon.wait_until_ready();
    let id = journalled(&fleet, "ended").pop().unwrap();
    assert_eq!(procs::of_job(&id), [], "nothing is left when it says it is ready");
    let finished = live.wait(SOON).expect_code(251);
    assert!(finished.err().contains("d: unknown: its daemon died"), "{finished:?}");
    assert_eq!(lines(&fleet.path().join("ran")), 1);
}

#[test]
fn a_daemon_that_dies_between_start_and_accepted_has_not_run_it_twice() {
    dies_before_it_accepts("best");
}

#[test]
fn a_daemon_that_dies_between_start_and_accepted_has_not_run_it_twice_with_reapers() {
    dies_before_it_accepts("reaper");
}

/// A cgroup that is frozen holds a new process before its first instruction: so the daemon is killed
/// after the id was journalled, and before the start could be.
#[test]
fn a_daemon_that_dies_between_journal_and_start_leaves_nothing_running() {
    let fleet = Fleet::builder().daemon(worker("best")).start();
    let daemon = fleet.daemon("w1");
    // Nothing else can stop a process at that very point.
    let cgroups = cgroups_of(&fleet).expect(
        "cgroups of version 2 are missing: the daemon could make none for its jobs; run the tests as root \
         where cgroup2 is mounted, or in a cgroup that is delegated",
    );
    let id = job_id();
    let place = cgroups.join(format!("job-{id}"));
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("cgroup.freeze"), "1").unwrap();
    let request = request(&fleet, &id, "echo ran >> ran").to_string();
    let mut raw = Raw::connect(&fleet.url());
    raw.publish_reply("exec.w1", "_INBOX.nobody.1", &request);
    eventually(SOON, "the process to be made", || {
        std::fs::read_to_string(place.join("cgroup.procs")).ok().filter(|pids| !pids.is_empty())
    });
    let record = daemon.state_directory().join("journal/open").join(&id);
    let record = std::fs::read_to_string(record).unwrap();
    assert!(record.contains("\"begun\"") && !record.contains("\"started\""), "{record}");
    daemon.kill9();
    // The process that is being made still has a copy of all the daemon had open, its lock too.
    daemon.start();
    std::fs::write(place.join("cgroup.freeze"), "0").unwrap();
    daemon.wait_until_ready();
    let left = std::fs::read_to_string(place.join("cgroup.procs")).unwrap_or_default();
    assert_eq!(left, "", "nothing is left when it says it is ready");
    // It may have begun in that moment; it does not begin again.
    let ran = lines(&fleet.path().join("ran"));
    let again = raw.request("exec.w1", request, SOON).json();
    let why = again["ending"]["unknown"]["why"].as_str().unwrap();
    assert!(why.contains("before its start was written down; it may have run"), "{again}");
    assert_eq!(plain(&fleet, "echo on").json()["stdout"], "on\n");
    assert_eq!(lines(&fleet.path().join("ran")), ran);
}

/// A caller that hears nothing, because its command says nothing, asks its successor for credit: it
/// learns from the answer what a silence of 15 s would tell it otherwise.
#[test]
fn the_caller_of_a_silent_command_learns_at_its_next_credit() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let mut live = exec(&fleet, WAITING).spawn();
    wait_until_ran(&fleet);
    // The next one is due in five seconds, when the successor is there.
    let mut raw = Raw::connect(&fleet.url());
    let credits = raw.subscribe("exec.w1.*.credit");
    raw.expect_on(credits, SOON, "a credit");
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    let ready = Instant::now();
    let finished = live.wait(SOON).expect_code(251);
    assert!(finished.err().contains("d: unknown: its daemon died while it ran"), "{finished:?}");
    assert!(ready.elapsed() < Duration::from_secs(13), "{:?}", ready.elapsed());
}
