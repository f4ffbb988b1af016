//! A header with a bare `\r` ends the connection task of the NATS client this project uses, wherever
//! it arrives. Jobs, the daemon, the leader and `d` go on.

use std::time::{Duration, Instant};

use crate::harness::child::Live;
use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;
use crate::harness::wait::eventually;
use crate::talk::{SOON, job_id, lines, one_worker};

const POISON: &[u8] = b"NATS/1.0\r\nX: a\rb\r\n\r\n";

/// Prints numbered lines until a file `stop` appears, then how many it were.
const COUNTING: &str = "i=0; while [ ! -e stop ]; do i=$((i+1)); echo line $i; echo note $i >&2; \
    read -t 0.005 <> fifo; done; echo all $i";

fn count_lines(fleet: &Fleet) -> Live {
    nix::unistd::mkfifo(&fleet.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let directory = fleet.path().to_str().unwrap();
    let mut live = fleet.spawn_d(["exec", "w1", "-C", directory, "--sh", COUNTING]);
    live.stdout_line(SOON, |line| line == "line 3");
    live
}

/// Waits until output goes on beyond what has come so far.
fn expect_more(live: &mut Live) {
    let now = live.stdout.total();
    live.stdout_reaches(now + 100, SOON);
}

#[track_caller]
fn expect_every_line(fleet: &Fleet, mut live: Live) {
    std::fs::write(fleet.path().join("stop"), "").unwrap();
    let finished = live.wait(SOON * 2).expect_success();
    let out = finished.out();
    let mut count = 0;
    for line in out.lines().take_while(|line| !line.starts_with("all")) {
        count += 1;
        assert_eq!(line, format!("line {count}"));
    }
    assert!(out.ends_with(&format!("\nall {count}\n")), "{out}");
    let notes: String = (1..=count).map(|number| format!("note {number}\n")).collect();
    assert_eq!(finished.err(), notes);
}

fn rebuilt(fleet: &Fleet, daemon: &str) -> usize {
    fleet.daemon(daemon).stderr().matches("lost the connection to the bus").count()
}

/// Poisons a subject, and waits until the daemon has said that it rebuilds its connection, and
/// answers again.
#[track_caller]
fn poison(fleet: &Fleet, raw: &mut Raw, subject: &str, daemon: &str) {
    let before = rebuilt(fleet, daemon);
    raw.publish_bytes(subject.as_bytes(), b"_INBOX.x.y", Some(POISON), b"{}");
    raw.barrier();
    eventually(SOON, &format!("{daemon} to say that it lost its connection by {subject}"), || {
        (rebuilt(fleet, daemon) > before).then_some(())
    });
    let begin = Instant::now();
    // What is said while the connection is being replaced may be lost, as anything on this bus.
    let inbox = raw.new_inbox();
    let sid = raw.subscribe(&inbox);
    eventually(SOON, &format!("{daemon} to answer again after {subject}"), || {
        raw.publish_reply(&format!("exec.{daemon}.ping"), &inbox, "");
        raw.next_on(sid, Duration::from_millis(250)).filter(|answer| !answer.is_no_responders())
    });
    raw.unsubscribe(sid);
    assert!(begin.elapsed() < Duration::from_secs(15), "back after {:?}", begin.elapsed());
}

#[test]
fn a_bare_carriage_return_stops_neither_daemon_nor_job() {
    let fleet = one_worker();
    let mut live = count_lines(&fleet);
    let mut raw = Raw::connect(&fleet.url());
    let subjects = ["exec.w1", "exec.w1.ping", &format!("exec.w1.{}.credit", job_id()), "exec.w1.x.credit"];
    for subject in subjects.into_iter().chain(["$SRV.PING", "$SRV.PING.exec"]) {
        poison(&fleet, &mut raw, subject, "w1");
        expect_more(&mut live);
    }
    assert!(fleet.daemon("w1").is_running());
    expect_every_line(&fleet, live);
}

#[test]
fn a_bare_carriage_return_stops_no_leader() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    let mut raw = Raw::connect(&fleet.url());
    for subject in ["peers.alive", "peers.list", "peers.get"] {
        let before = (rebuilt(&fleet, "lead"), rebuilt(&fleet, "w1"));
        poison(&fleet, &mut raw, subject, "lead");
        assert!(rebuilt(&fleet, "lead") == before.0 + 1 && rebuilt(&fleet, "w1") == before.1, "{subject}");
        eventually(SOON, &format!("the leader to know the fleet after {subject}"), || {
            let listed = fleet.d(["peers", "--json"]);
            let online = listed.out().matches("\"is_online\":true").count();
            (listed.code() == Some(0) && online == 2).then_some(())
        });
    }
    fleet.daemon("lead").terminate().expect_success();
}

#[test]
fn a_bare_carriage_return_in_the_inbox_of_a_caller_or_a_daemon_stops_neither() {
    let fleet = one_worker();
    let mut raw = Raw::connect(&fleet.url());
    let requests = raw.subscribe("exec.w1");
    let asked = raw.subscribe("exec.w1.ping");
    let mut live = count_lines(&fleet);
    let inbox = raw.expect_on(requests, SOON, "the request of d").reply.unwrap();
    raw.publish_bytes(inbox.as_bytes(), b"", Some(POISON), b"");
    expect_more(&mut live);
    // A daemon asks who else holds its id, at each new connection: that shows its inbox. One it has asked before would
    // show an inbox of the connection that is to go.
    raw.barrier();
    while raw.next_on(asked, Duration::ZERO).is_some() {}
    poison(&fleet, &mut raw, "exec.w1.ping", "w1");
    let inbox = eventually(SOON, "the daemon's own ping", || {
        let reply = raw.next_on(asked, SOON)?.reply?;
        // Not one of ours, which are short.
        (reply.len() > 60).then_some(reply)
    });
    poison(&fleet, &mut raw, &inbox, "w1");
    expect_more(&mut live);
    expect_every_line(&fleet, live);
}

#[test]
fn other_broken_messages_are_survived_too() {
    let fleet = one_worker();
    let mut live = count_lines(&fleet);
    let mut raw = Raw::connect(&fleet.url());
    let blocks: [&[u8]; 8] = [
        b"no headers at all",
        b"NATS/1.0\r\n",
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\nX\r\n\r\n",
        b"NATS/1.0\r\n: v\r\n\r\n",
        b"NATS/1.0 abc\r\nX: \xff\xfe\r\n\r\n",
        b"NATS/1.0 99999999\r\n\r\n",
        b"NATS/1.0\r\nX: a\nb\r\n\r\n",
    ];
    for block in blocks {
        for subject in
            [&b"exec.w1"[..], b"exec.w1.ping", b"exec.w1.x.credit", b"exec.w1.\xff\xfe", b"$SRV.PING"]
        {
            raw.publish_bytes(subject, b"_INBOX.x.y", Some(block), b"{}");
            raw.publish_bytes(subject, b"_INBOX.\xff", Some(block), b"\xff");
        }
        raw.barrier();
        expect_more(&mut live);
    }
    expect_every_line(&fleet, live);
    assert!(fleet.daemon("w1").is_running());
    assert_eq!(lines(&fleet.path().join("ran")), 0);
}
