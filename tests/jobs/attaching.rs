//! Following a durable job, and leaving it.

use nix::sys::signal::Signal;

use crate::bench::{SOON, detached, listed, short, start, three};
use crate::harness::fleet::Fleet;
use crate::harness::wait::eventually;

/// A job that says what it is told, once it is ready to.
fn heeding(fleet: &Fleet) -> String {
    let go = fleet.path().join("go");
    let line = format!(
        "trap 'echo interrupted; exit 12' INT; echo here; echo there >&2; until [ -e {} ]; do sleep 0.05; done; exit 3",
        go.display()
    );
    detached(fleet, "w1", &line)
}

#[test]
fn ctrl_c_is_for_the_job() {
    let fleet = three();
    let job = heeding(&fleet);
    let mut d = fleet.spawn_d(["attach", short(&job)]);
    assert!(d.stdout.contains(b"here\n", SOON) && d.stderr.contains(b"there\n", SOON));
    d.signal(Signal::SIGINT);
    let ended = d.wait(SOON).expect_code(12);
    assert_eq!((ended.out().as_str(), ended.err().as_str()), ("here\ninterrupted\n", "there\n"));
    // Again: it has ended, and its output is there all the same.
    let again = fleet.d(["attach", &job]).expect_code(12);
    assert_eq!(again.out(), "here\ninterrupted\n");
    let last = format!("there\nd: {} on w1 has ended: exited with code 12\n", short(&job));
    assert_eq!(again.err(), last);
}

#[test]
fn whoever_only_looks_on_leaves_it_as_it_is() {
    let fleet = three();
    let job = heeding(&fleet);
    for (arguments, signal, code, said) in [
        (&["attach", "--watch"][..], Signal::SIGINT, 130, "which goes on"),
        (&["attach"], Signal::SIGTERM, 251, "the job goes on"),
        (&["attach"], Signal::SIGHUP, 251, "the job goes on"),
        (&["logs", "-f"], Signal::SIGINT, 130, "which goes on"),
    ] {
        let mut d = fleet.spawn_d(arguments.iter().chain(&[job.as_str()]));
        assert!(d.stdout.contains(b"here\n", SOON) && d.stderr.contains(b"there\n", SOON));
        d.signal(signal);
        let left = d.wait(SOON).expect_code(code);
        let next = format!("`d attach w1/{} --since-byte 11` goes on where this ended", short(&job));
        assert!(left.err().contains(said) && left.err().contains(&next), "{arguments:?}: {left:?}");
        let left = || listed(&fleet, &["w1"])[0].clone();
        assert_eq!(left()["state"], "running", "{arguments:?}");
        eventually(SOON, "nobody to follow it", || (left()["viewers"] == 0).then_some(()));
    }
    // One that reads no more, as `head` does, is not the job's concern either.
    let mut d = fleet.spawn_d(["attach", &job]);
    assert!(d.stdout.contains(b"here\n", SOON));
    let mut from_here = fleet.spawn_d(["attach", &job, "--since-byte", "11"]);
    eventually(SOON, "both of them", || (listed(&fleet, &["w1"])[0]["viewers"] == 2).then_some(()));
    d.stdout.close();
    std::fs::write(fleet.path().join("go"), "").unwrap();
    d.wait(SOON).expect_code(3);
    let rest = from_here.wait(SOON).expect_code(3);
    assert_eq!((rest.out().as_str(), rest.err().as_str()), ("", ""));
}

#[test]
fn a_reader_that_goes_away_stops_no_job() {
    let fleet = three();
    let job = detached(&fleet, "w1", "while :; do echo 0123456789; sleep 0.01; done");
    let mut d = fleet.spawn_d(["attach", &job]);
    assert!(d.stdout.contains(b"0123456789\n", SOON));
    d.stdout.close();
    d.wait(SOON).expect_code(141);
    assert_eq!(listed(&fleet, &["w1"])[0]["state"], "running");
    fleet.d(["stop", &job]).expect_success();
}

#[test]
fn a_job_of_its_caller_alone_cannot_be_attached_to() {
    let fleet = three();
    let job = start(&fleet, "w1", "exec sleep 1000");
    for verb in ["attach", "logs"] {
        let refused = fleet.d([verb, short(&job)]).expect_code(250);
        let said = format!(
            "d: refused: w1: {} is not durable: what it prints goes to its caller alone",
            short(&job)
        );
        assert!(refused.err().starts_with(&said) && refused.out().is_empty(), "{refused:?}");
    }
    fleet.d(["attach", "nothing"]).expect_code(254);
}
