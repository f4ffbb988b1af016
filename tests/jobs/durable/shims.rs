//! Shims that are killed: with them goes what is known of their job's end, and nothing else.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use peerbus::protocol::Ending;
use peerbus::protocol::attach::AttachFrom;

use crate::durable::bench::{
    Counter, SOON, Watch, audited, ending, exec, journalled, read_all, shim_pid, start,
};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::procs;
use crate::harness::wait::eventually;

fn worker(containment: &str) -> Fleet {
    Fleet::builder().daemon(DaemonOptions::worker("w1").env("PEERBUS_CONTAINMENT", containment)).start()
}

fn is_killed(containment: &str) {
    let fleet = worker(containment);
    let counter = Counter::new(&fleet, "c");
    let mut live = exec(&fleet, &["--durable"], &counter.line()).spawn();
    live.stdout_line(SOON, |line| line == "line 3");
    let id = journalled(&fleet, "open").pop().unwrap();
    kill(Pid::from_raw(shim_pid(&fleet, &id)), Signal::SIGKILL).unwrap();
    let finished = live.wait(SOON).expect_code(251);
    assert!(finished.err().contains("d: unknown: its shim died"), "{finished:?}");
    let next = format!("; `d logs w1/{id}` shows what is kept of what it has printed\n");
    assert!(finished.err().ends_with(&next), "{finished:?}");
    procs::wait_until_job_gone(&id, SOON);
    let heard = read_all(&fleet, &id);
    let ended = heard.outcome.expect("an end").ending;
    assert!(matches!(&ended, Ending::Unknown { why } if why.contains("its shim died")), "{ended:?}");
    let out = String::from_utf8(heard.out).unwrap();
    assert!(out.starts_with("line 1\nline 2\nline 3\n") && out.starts_with(&finished.out()), "{out}");
    assert_eq!(counter.pids().len(), 1);
    assert_eq!(audited(&fleet, &id), ["begun", "ended"]);
    assert_eq!(journalled(&fleet, "open"), [""; 0]);
}

#[test]
fn a_shim_that_is_killed_is_noticed_at_once() {
    is_killed("best");
}

#[test]
fn a_shim_that_is_killed_is_noticed_at_once_with_reapers() {
    is_killed("reaper");
}

fn both_are_killed(containment: &str) {
    let fleet = worker(containment);
    let daemon = fleet.daemon("w1");
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    Watch::attach(&fleet, &id, AttachFrom::Start).expect_more();
    let shim = shim_pid(&fleet, &id);
    daemon.kill9();
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    daemon.start();
    daemon.wait_until_ready();
    assert_eq!(procs::of_job(&id), [], "nothing is left when it says it is ready");
    let why = ending(&fleet, &id)["unknown"]["why"].as_str().map(str::to_owned);
    assert!(why.as_ref().is_some_and(|why| why.contains("its shim died")), "{why:?}");
    assert!(read_all(&fleet, &id).out.starts_with(b"line 1\n"));
    assert_eq!(audited(&fleet, &id), ["begun", "ended"]);
    assert_eq!(counter.pids().len(), 1);
}

#[test]
fn a_shim_that_died_with_its_daemon_is_told_of_by_the_next_one() {
    both_are_killed("best");
}

#[test]
fn a_shim_that_died_with_its_daemon_is_told_of_by_the_next_one_with_reapers() {
    both_are_killed("reaper");
}

/// Whoever makes room on a full disk may take a job's directory: that is no word on whether it has run.
#[test]
fn a_directory_that_was_taken_away_does_not_mean_that_nothing_ran() {
    let fleet = worker("best");
    let daemon = fleet.daemon("w1");
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    Watch::attach(&fleet, &id, AttachFrom::Start).expect_more();
    daemon.kill9();
    // In one step: the shim may write something there at this moment.
    let gone = fleet.path().join("gone");
    std::fs::rename(daemon.state_directory().join("jobs").join(&id), &gone).unwrap();
    std::fs::remove_dir_all(gone).unwrap();
    daemon.start();
    daemon.wait_until_ready();
    let why = ending(&fleet, &id)["unknown"]["why"].as_str().map(str::to_owned);
    assert!(why.as_ref().is_some_and(|why| why.contains("was taken away while it ran")), "{why:?}");
    procs::wait_until_job_gone(&id, SOON);
    assert_eq!(counter.pids().len(), 1);
}

#[test]
fn a_shim_that_stands_still_is_not_a_dead_one() {
    let fleet = worker("best");
    let daemon = fleet.daemon("w1");
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    Watch::attach(&fleet, &id, AttachFrom::Start).expect_more();
    let shim = Pid::from_raw(shim_pid(&fleet, &id));
    kill(shim, Signal::SIGSTOP).unwrap();
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    assert!(!procs::with_environment("PEERBUS_JOB", &id).is_empty(), "its command lives");
    kill(shim, Signal::SIGCONT).unwrap();
    let watch = Watch::attach(&fleet, &id, AttachFrom::Start);
    watch.expect_more();
    counter.stop();
    let heard = watch.end();
    assert_eq!(heard.code(), Some(7), "{:?}", heard.outcome);
    Counter::expect_whole(&heard.out, &heard.err);
    eventually(SOON, "the record to be closed", || journalled(&fleet, "open").is_empty().then_some(()));
}
