//! A daemon that is asked to stop.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::bench::{SOON, WAITING, cgroups_of, exec, job_id, plain, refusal, request, wait_until_ran};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::{Message, Raw};
use crate::harness::procs;
use crate::harness::wait::eventually;

#[test]
fn a_daemon_that_stops_lets_short_jobs_end_and_stops_long_ones() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let marker = procs::marker();
    let mut raw = Raw::connect(&fleet.url());
    let beats = raw.subscribe("peers.alive");
    let mut short = exec(&fleet, &format!("{WAITING}; echo over; exit 5")).spawn();
    wait_until_ran(&fleet);
    let idle = format!("sh -c 'while :; do sleep 1; done' {marker}");
    let mut long = exec(&fleet, &format!("setsid {idle} & {idle}")).spawn();
    procs::wait_until_running(&marker, 3, SOON);
    // Somebody whose plain request is running is answered, too.
    let (id, inbox) = (job_id(), raw.new_inbox());
    let waits = raw.subscribe(&inbox);
    raw.publish_reply(
        "exec.w1",
        &inbox,
        request(&fleet, &id, "echo some; touch plain; sleep 1000").to_string(),
    );
    eventually(SOON, "the plain request to run", || fleet.path().join("plain").exists().then_some(()));

    let begin = Instant::now();
    daemon.signal(Signal::SIGTERM);
    let asked = || refusal(&plain(&fleet, "true"));
    eventually(SOON, "new work to be refused", || (asked().as_deref() == Some("stopping")).then_some(()));
    let refused = exec(&fleet, "echo ran >> other").run().expect_code(250);
    assert!(refused.err().contains("the daemon is stopping"), "{refused:?}");
    std::fs::write(fleet.path().join("go"), "").unwrap();
    assert_eq!(short.wait(SOON).expect_code(5).out(), "over\n");
    let cancelled = long.wait(SOON).expect_code(130);
    assert!(begin.elapsed() > Duration::from_millis(4900), "after {:?}", begin.elapsed());
    assert!(cancelled.err().contains("d: cancelled: daemon stopping"), "{cancelled:?}");
    let answer = raw.expect_on(waits, SOON, "the answer to the plain request").json();
    assert_eq!(answer["ending"]["cancelled"]["why"], "daemon stopping", "{answer}");
    assert_eq!(answer["stdout"], "some\n", "{answer}");
    daemon.wait_for_end(SOON).expect_success();
    let leaving = |beat: &Message| beat.sid == beats && beat.json()["state"] == "leaving";
    let beat = raw.next_where(SOON, leaving).expect("the word that it leaves").json();
    assert_eq!(beat["peer_id"], "w1", "{beat}");
    procs::wait_until_gone(&marker, SOON);
    assert!(raw.request("exec.w1.ping", "", SOON).is_no_responders());
    let state = std::fs::read(daemon.state_directory().join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["state"], "stopped", "{state}");
    assert!(!fleet.path().join("other").exists());
    let left = procs::touching(fleet.path());
    assert_eq!(left, [], "nothing is left behind");
}

#[test]
fn a_daemon_without_jobs_stops_at_once() {
    let fleet = Fleet::of_workers(["w1"]);
    let cgroups = cgroups_of(&fleet);
    assert!(cgroups.as_ref().is_none_or(|place| place.exists()), "{cgroups:?}");
    let finished = {
        let begin = Instant::now();
        let finished = fleet.daemon("w1").terminate().expect_success();
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        finished
    };
    assert!(!finished.err().contains("ERROR"), "{finished:?}");
    assert!(cgroups.is_none_or(|place| !place.exists()), "its cgroups are gone");
}

#[test]
fn a_daemon_stops_while_the_bus_is_away() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let marker = procs::marker();
    let idle = format!("sh -c 'while :; do sleep 1; done' {marker}");
    let _live = exec(&fleet, &idle).spawn();
    procs::wait_until_running(&marker, 1, SOON);
    fleet.server().kill();
    daemon.wait_for_line(SOON, |line| line.contains("lost the connection to the bus"));
    let begin = Instant::now();
    daemon.terminate().expect_success();
    // Five seconds for jobs to end, some for their callers, who cannot be told.
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    assert_eq!(procs::with_argument(&marker), []);
}

#[test]
fn a_daemon_that_never_saw_the_bus_stops_at_once() {
    let fleet = Fleet::builder().start();
    fleet.server().kill();
    let daemon = fleet.add_starting(DaemonOptions::worker("w1"));
    daemon.wait_for_line(SOON, |line| line.contains("connecting to the bus at"));
    let begin = Instant::now();
    daemon.terminate().expect_success();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}
