//! Jobs beside each other: none waits for another, and a peer that has enough says so.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::bench::{PATIENCE, argv, fleet, own_failure, reported, says, sh};
use crate::harness::child::Live;
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::procs;
use crate::harness::wait::eventually;

#[test]
fn twenty_jobs_at_once() {
    let fleet = fleet();
    let go = fleet.path().join("go");
    let mut jobs: Vec<Live> = (0..20)
        .map(|number| {
            let line = format!(
                "echo up {number}; until [ -e {} ]; do sleep 0.1; done; echo {number} >&2; exit {number}",
                go.display()
            );
            sh(&fleet, &line).spawn()
        })
        .collect();
    for (number, job) in jobs.iter_mut().enumerate() {
        says(job, &format!("up {number}"));
    }
    // All of them run now.
    std::fs::write(&go, "").unwrap();
    for (number, job) in jobs.iter_mut().enumerate() {
        let finished = job.wait(PATIENCE).expect_code(i32::try_from(number).unwrap());
        assert_eq!(finished.out(), format!("up {number}\n"));
        assert_eq!(finished.err(), format!("{number}\n"));
    }
}

#[test]
fn two_hundred_jobs_one_after_another() {
    let fleet = fleet();
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    let sid = raw.subscribe(&inbox);
    for number in 0..200 {
        let request = serde_json::json!({ "directory": "/", "shell_cmd": format!("echo {number}") });
        raw.publish_reply("exec.w1", &inbox, request.to_string());
    }
    let mut said: Vec<i64> = (0..200)
        .map(|_| {
            raw.expect_on(sid, PATIENCE, "an answer").json()["stdout"]
                .as_str()
                .unwrap()
                .trim()
                .parse()
                .unwrap()
        })
        .collect();
    said.sort_unstable();
    assert_eq!(said, (0..200).collect::<Vec<i64>>());
}

#[test]
fn a_peer_that_runs_as_many_jobs_as_it_may_says_so() {
    let fleet = Fleet::builder().daemon(DaemonOptions::worker("w1").configuration("max_jobs = 2\n")).start();
    let mut running: Vec<Live> = (0..2).map(|_| sh(&fleet, "echo up; exec sleep 1000").spawn()).collect();
    for job in &mut running {
        says(job, "up");
    }
    for _ in 0..2 {
        let (finished, report) = reported(&fleet, &["exec", "w1", "-C", "/", "--", "true"]);
        own_failure(finished, 250, "refused: w1: w1 runs 2 jobs at once and no more");
        assert_eq!(report["ending"]["refused"]["why"], "limit");
        assert_eq!(report["result"]["out"], Value::Null);
    }
    // A place is free as soon as `d` knows of the end, whatever the end was.
    let finish = |mut job: Live| {
        job.signal(Signal::SIGINT);
        job.wait(PATIENCE).expect_code(130);
        argv(&fleet, &["true"]).run().expect_success();
    };
    running.drain(..).for_each(finish);
    for arguments in [["-C", "/no/such/place", "--", "true"], ["-C", "/", "--", "no-such-command"]] {
        for _ in 0..3 {
            assert!(fleet.d([&["exec", "w1"], &arguments[..]].concat()).code().unwrap() >= 127);
        }
    }
    let mut both: Vec<Live> = (0..2).map(|_| sh(&fleet, "echo up; exec sleep 1000").spawn()).collect();
    for job in &mut both {
        says(job, "up");
    }
    both.drain(..).for_each(finish);
}

#[test]
fn floods_delay_neither_a_start_nor_a_ping_nor_a_heartbeat() {
    let fleet = fleet();
    let marker = procs::marker();
    let mut floods: Vec<Live> =
        (0..4).map(|_| sh(&fleet, &format!("exec yes {marker}")).count_output().spawn()).collect();
    for flood in &mut floods {
        flood.stdout_reaches(4 << 20, PATIENCE);
    }
    for _ in 0..5 {
        let ping = fleet.d(["ping", "w1", "--timeout", "10s"]).expect_success();
        assert!(ping.out().starts_with("w1: "), "{ping:?}");
        assert_eq!(argv(&fleet, &["echo", "quick"]).run().expect_success().out(), "quick\n");
    }
    // Three in a row, each in time: a leader calls a peer offline after three intervals.
    let mut ear = Raw::connect(&fleet.url());
    let alive = ear.subscribe("peers.alive");
    for _ in 0..3 {
        let beat = ear.expect_on(alive, Duration::from_secs(15), "a heartbeat").json();
        assert_eq!(beat["jobs"], 4, "{beat}");
    }
    for mut flood in floods {
        let before = flood.stdout.total();
        flood.stdout_reaches(before + 1, PATIENCE);
        flood.signal(Signal::SIGINT);
        flood.wait(PATIENCE).expect_code(130);
    }
    assert_eq!(procs::with_argument(&marker), []);
}

#[test]
fn a_job_that_takes_long_to_stop_delays_nobody() {
    let fleet = fleet();
    let marker = procs::marker();
    let line = format!(": {marker}; trap 'echo no' TERM; echo up; while :; do sleep 0.1; done");
    let mut stubborn = sh(&fleet, &line).spawn();
    says(&mut stubborn, "up");
    let asked = Instant::now();
    stubborn.signal(Signal::SIGTERM);
    says(&mut stubborn, "no");
    // It gets 5 s to think it over.
    assert_eq!(argv(&fleet, &["echo", "quick"]).run().expect_success().out(), "quick\n");
    // On a busy machine that may be over.
    assert!(stubborn.ended().is_none() || asked.elapsed() > Duration::from_secs(4));
    stubborn.wait(PATIENCE).expect_code(130);
    eventually(PATIENCE, "nothing to be left", || procs::with_argument(&marker).is_empty().then_some(()));
}
