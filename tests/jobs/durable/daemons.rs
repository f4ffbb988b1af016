//! Daemons and brokers that end while durable jobs run: killed, stopped, replaced.

use peerbus::protocol::attach::AttachFrom;
use serde_json::json;

use crate::durable::bench::{
    Counter, SOON, Watch, audited, ending, exec, journalled, read_all, shim_pid, start,
};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::procs;
use crate::harness::wait::eventually;

fn is_killed_in_mid_output(containment: &str) {
    let options = DaemonOptions::worker("w1").env("PEERBUS_CONTAINMENT", containment);
    let fleet = Fleet::builder().daemon(options).start();
    let daemon = fleet.daemon("w1");
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    let watch = Watch::attach(&fleet, &id, AttachFrom::Start);
    watch.expect_more();
    let pids = counter.pids();
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    watch.expect_more();
    let late = Watch::attach(&fleet, &id, AttachFrom::Start);
    late.expect_more();
    assert_eq!(counter.pids(), pids, "it runs on, and was not run again");
    assert_eq!(Raw::connect(&fleet.url()).request("exec.w1.ping", "", SOON).json()["jobs"], 1);
    counter.stop();
    for watch in [watch, late] {
        let heard = watch.end();
        assert_eq!(heard.code(), Some(7), "{:?}", heard.outcome);
        Counter::expect_whole(&heard.out, &heard.err);
    }
    assert_eq!(audited(&fleet, &id), ["begun", "ended"]);
    eventually(SOON, "the record to be closed", || journalled(&fleet, "open").is_empty().then_some(()));
}

#[test]
fn a_daemon_that_is_killed_in_mid_output_costs_nothing() {
    is_killed_in_mid_output("best");
}

#[test]
fn a_daemon_that_is_killed_in_mid_output_costs_nothing_with_reapers() {
    is_killed_in_mid_output("reaper");
}

#[test]
fn what_ends_while_there_is_no_daemon_is_told_by_the_next_one() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    Watch::attach(&fleet, &id, AttachFrom::Start).expect_more();
    let shim = shim_pid(&fleet, &id);
    daemon.kill9();
    counter.stop();
    eventually(SOON, "its shim to end", || procs::look_at(shim).is_none().then_some(()));
    daemon.start();
    daemon.wait_until_ready();
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 7}}));
    let heard = read_all(&fleet, &id);
    assert_eq!(heard.code(), Some(7), "{:?}", heard.outcome);
    Counter::expect_whole(&heard.out, &heard.err);
    assert_eq!(audited(&fleet, &id), ["begun", "ended"]);
    daemon.restart();
    assert_eq!(audited(&fleet, &id), ["begun", "ended"], "once, whoever comes next");
}

#[test]
fn a_daemon_that_is_stopped_leaves_durable_jobs_and_stops_all_others() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    let mut other = exec(&fleet, &[], "echo on; while :; do sleep 0.1; done").spawn();
    other.stdout_line(SOON, |line| line == "on");
    let watch = Watch::attach(&fleet, &id, AttachFrom::Start);
    watch.expect_more();
    daemon.terminate().expect_success();
    assert!(other.wait(SOON).expect_code(130).err().contains("daemon stopping"));
    assert!(procs::look_at(counter.pids()[0]).is_some(), "it runs on");
    daemon.start();
    daemon.wait_until_ready();
    watch.expect_more();
    counter.stop();
    let heard = watch.end();
    assert_eq!(heard.code(), Some(7), "{:?}", heard.outcome);
    Counter::expect_whole(&heard.out, &heard.err);
    assert_eq!(counter.pids().len(), 1);
}

#[test]
fn the_caller_of_a_durable_job_does_not_notice_that_the_daemon_is_restarted() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let mut live =
        exec(&fleet, &["--durable", "-i"], "echo on; cat; echo over >&2; exit 4").open_input().spawn();
    live.stdout_line(SOON, |line| line == "on");
    let mut typed = String::from("on\n");
    for round in 0..4 {
        let text: String = (0..2_000).map(|number| format!("round {round} line {number}\n")).collect();
        live.write(text.as_bytes()).unwrap();
        typed.push_str(&text);
        // Some of it is on its way.
        match round {
            0 | 2 => daemon.kill9(),
            _ => drop(daemon.terminate()),
        }
        daemon.start();
        daemon.wait_until_ready();
    }
    live.close_stdin();
    let finished = live.wait(SOON * 2).expect_code(4);
    assert!(finished.out() == typed, "what came back differs from what was typed");
    assert_eq!(finished.err().lines().filter(|line| !line.starts_with("d: ")).collect::<Vec<_>>(), ["over"]);
}

#[test]
fn a_broker_that_is_restarted_costs_nothing() {
    let fleet = Fleet::of_workers(["w1"]);
    let counter = Counter::new(&fleet, "c");
    let mut live = exec(&fleet, &["--durable"], &counter.line()).spawn();
    live.stdout_line(SOON, |line| line == "line 3");
    let id = journalled(&fleet, "open").pop().unwrap();
    let watch = Watch::attach(&fleet, &id, AttachFrom::Start);
    watch.expect_more();
    fleet.server().restart();
    watch.expect_more();
    counter.stop();
    let finished = live.wait(SOON).expect_code(7);
    Counter::expect_whole(finished.out().as_bytes(), finished.err().as_bytes());
    let heard = watch.end();
    assert_eq!(heard.code(), Some(7));
    Counter::expect_whole(&heard.out, &heard.err);
}

#[test]
fn a_job_that_was_asked_to_stop_is_stopped_whatever_becomes_of_the_daemon() {
    let fleet = Fleet::of_workers(["w1"]);
    let id = start(&fleet, "trap '' TERM; while :; do sleep 0.1; done");
    let mut raw = Raw::connect(&fleet.url());
    let answer = raw.request(&format!("exec.w1.{id}.cancel"), r#"{"why":"enough"}"#, SOON).json();
    assert_eq!(answer["answer"], "running", "{answer}");
    let daemon = fleet.daemon("w1");
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    assert_eq!(ending(&fleet, &id), json!({"cancelled": {"why": "enough"}}));
    procs::wait_until_job_gone(&id, SOON);
}
