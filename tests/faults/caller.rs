//! Callers that are killed, stopped, or come back.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::bench::{
    SOON, begin_halves, exec, expect_exact, half_and_half, journalled, kept, sequence, wait_for_half,
};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::procs;
use crate::harness::server::ServerOptions;
use crate::harness::wait::eventually;

fn with_grace(grace: &str) -> Fleet {
    let options = DaemonOptions::worker("w1").configuration(&format!("caller_grace = \"{grace}\""));
    Fleet::builder().daemon(options).start()
}

#[test]
fn the_tree_of_a_killed_caller_is_stopped_after_the_grace() {
    for line in ["while :; do echo more; sleep 0.1; done", "while :; do sleep 0.1; done"] {
        let fleet = with_grace("1s");
        let marker = procs::marker();
        let idle = format!("sh -c 'while :; do sleep 1; done' {marker}");
        let mut live = exec(&fleet, &format!("setsid {idle} > /dev/null 2>&1 & {idle} & {line}")).spawn();
        procs::wait_until_running(&marker, 3, SOON);
        live.kill();
        procs::wait_until_gone(&marker, SOON);
        let said = |line: &str| line.contains("its caller vanished and did not come back");
        fleet.daemon("w1").wait_for_line(SOON, said);
        let id = eventually(SOON, "the end to be journalled", || journalled(&fleet, "ended").pop());
        let result = kept(&fleet, &id).json();
        assert_eq!(result["ending"]["cancelled"]["why"], "its caller vanished", "{result}");
        assert!(result["killed"].as_u64().unwrap() >= 3, "{result}");
        assert_eq!(fleet.daemon("w1").stderr().matches("its caller vanished and did not").count(), 1);
    }
}

/// A fleet whose server drops a client that has not answered a ping for a second or two, while
/// nothing is sent to it.
fn with_an_impatient_server(grace: &str) -> Fleet {
    let server = ServerOptions::new().ping(Duration::from_secs(1), 1);
    let worker = DaemonOptions::worker("w1").configuration(&format!("caller_grace = \"{grace}\""));
    Fleet::builder().server(server).daemon(worker).start()
}

/// Waits until the server has dropped whoever made this request: nobody hears its inbox.
#[track_caller]
fn wait_until_dropped(raw: &mut Raw, inbox: &str) {
    let own = raw.new_inbox();
    let sid = raw.subscribe(&own);
    // Not too often: what is sent to a client puts its next ping off.
    let asked = std::iter::repeat_with(|| {
        raw.publish_reply(inbox, &own, "");
        raw.next_on(sid, Duration::from_secs(4))
    });
    let dropped = asked.take(5).flatten().any(|answer| answer.is_no_responders());
    assert!(dropped, "the server has not dropped the stopped client");
}

#[test]
fn a_caller_that_was_stopped_for_a_while_keeps_its_job() {
    let fleet = with_an_impatient_server("60s");
    let mut raw = Raw::connect(&fleet.url());
    let requests = raw.subscribe("exec.w1");
    let mut live = begin_halves(|line| exec(&fleet, line));
    let inbox = raw.expect_on(requests, SOON, "the request").reply.unwrap();
    wait_for_half(&mut live);
    live.signal(Signal::SIGSTOP);
    // A connection of its own: this server soon drops one that nobody reads from.
    wait_until_dropped(&mut Raw::connect(&fleet.url()), &inbox);
    // What it says now reaches nobody.
    std::fs::write(fleet.path().join("go"), "").unwrap();
    let id = eventually(SOON, "the command to end", || journalled(&fleet, "ended").pop());
    assert_eq!(procs::of_job(&id), []);
    live.signal(Signal::SIGCONT);
    expect_exact(&mut live, &sequence(10_000), SOON);
}

#[test]
fn a_caller_that_comes_back_too_late_is_told_what_happened() {
    let fleet = with_an_impatient_server("3s");
    let mut live = half_and_half(|line| exec(&fleet, line));
    live.signal(Signal::SIGSTOP);
    let id = eventually(SOON, "the job to be given up", || journalled(&fleet, "ended").pop());
    assert_eq!(procs::of_job(&id), []);
    live.signal(Signal::SIGCONT);
    let finished = live.wait(SOON).expect_code(130);
    assert!(finished.err().contains("d: cancelled: its caller vanished"), "{finished:?}");
    assert_eq!(finished.stdout, sequence(5000));
}

/// A peer that knows no credit, and a caller whose output nobody reads.
#[test]
fn a_peer_that_sends_more_than_it_was_granted_is_not_listened_to() {
    const PIECE: usize = 64 << 10;
    let fleet = Fleet::builder().start();
    let mut raw = Raw::connect(&fleet.url());
    let requests = raw.subscribe("exec.w1");
    let arguments = ["exec", "w1", "-C", "/", "--", "true"];
    let mut live = fleet.command(arguments).paused_output().spawn();
    let asked = raw.expect_on(requests, SOON, "the request");
    let (job, inbox) = (asked.json()["id"].as_str().unwrap().to_owned(), asked.reply.unwrap());
    let credit = raw.subscribe(&format!("exec.w1.{job}.credit"));
    let accepted = serde_json::json!({
        "instance": uuid::Uuid::new_v4().to_string(), "state": "running", "stdin_received": 0, "signals": 0,
    });
    let mut frame = |seq: usize, kind: &str, payload: &[u8]| {
        let offset = seq.saturating_sub(2) * PIECE;
        let headers =
            format!("NATS/1.0\r\nD-Epoch: 1\r\nD-Seq: {seq}\r\nD-Kind: {kind}\r\nD-Offset: {offset}\r\n\r\n");
        raw.publish_bytes(inbox.as_bytes(), b"", Some(headers.as_bytes()), payload);
    };
    frame(1, "accepted", accepted.to_string().as_bytes());
    for seq in 2..=1_000 {
        frame(seq, "out", &vec![b'x'; PIECE]);
    }
    raw.barrier();
    // By its clock, when all that came has long been looked at.
    raw.expect_on(credit, SOON, "a credit");
    live.stdout.resume();
    let finished = live.wait(SOON).expect_code(251);
    assert!(finished.err().contains("w1 sent more than it was granted"), "{}", finished.err());
    // A window, and what went into the pipe before.
    assert!(finished.stdout.len() <= (1 << 20) + 2 * PIECE, "{} bytes were taken", finished.stdout.len());
}
