//! Requests that are lost, repeated, or come late.

use std::time::Duration;

use crate::bench::{SOON, WAITING, exec, lines, plain};
use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;
use crate::harness::procs;

#[test]
fn a_request_that_was_repeated_runs_once() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let mut raw = Raw::connect(&fleet.url());
    let requests = raw.subscribe("exec.w1");
    daemon.freeze();
    let mut live = exec(&fleet, "echo ran >> ran; echo hello; exit 4").spawn();
    let first = raw.expect_on(requests, SOON, "the request");
    for _ in 0..2 {
        let again = raw.expect_on(requests, SOON, "the request again");
        assert_eq!((&again.payload, &again.reply), (&first.payload, &first.reply), "the identical request");
    }
    daemon.thaw();
    assert_eq!(live.wait(SOON).expect_code(4).out(), "hello\n");
    assert_eq!(plain(&fleet, "true").json()["ending"]["exited"]["code"], 0);
    assert_eq!(lines(&fleet.path().join("ran")), 1);
}

/// Whichever of request and cancel a daemon that wakes up sees first: what `d` says is true.
#[test]
fn a_request_that_comes_with_its_own_cancel_is_told_as_it_was() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let mut raw = Raw::connect(&fleet.url());
    let cancels = raw.subscribe("exec.w1.*.cancel");
    let marker = procs::marker();
    daemon.freeze();
    let mut live = exec(&fleet, &format!("echo ran >> ran; sleep 1000; : {marker}")).spawn();
    raw.expect_on(cancels, SOON, "the cancel");
    daemon.thaw();
    let finished = live.wait(SOON);
    // Whatever was on its way has been looked at when this is answered.
    assert_eq!(plain(&fleet, "true").json()["ending"]["exited"]["code"], 0);
    procs::wait_until_gone(&marker, SOON);
    let ran = lines(&fleet.path().join("ran"));
    match finished.code() {
        Some(249) => {
            assert!(finished.err().contains("never reached w1; it was not run"), "{finished:?}");
            assert_eq!(ran, 0, "{finished:?}");
        }
        Some(130) => assert!(ran <= 1 && finished.err().starts_with("d: cancelled:"), "{finished:?}"),
        _ => panic!("neither never run nor cancelled: {finished:?}"),
    }
}

#[test]
fn a_peer_that_never_answers_is_not_said_to_have_run_nothing() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let marker = procs::marker();
    daemon.freeze();
    let finished = exec(&fleet, &format!("{WAITING}; : {marker}")).deadline(Duration::from_secs(40)).run();
    let finished = finished.expect_code(251);
    assert!(finished.err().contains("may or may not have run"), "{finished:?}");
    daemon.thaw();
    // The cancels have arrived, too: whatever began has been stopped.
    assert_eq!(plain(&fleet, "true").json()["ending"]["exited"]["code"], 0);
    procs::wait_until_gone(&marker, SOON);
}
