//! Who may attach.

use peerbus::protocol::Ending;
use peerbus::protocol::attach::AttachFrom;
use peerbus::protocol::ending::Refusal;
use peerbus::protocol::identity::Standing;
use serde_json::json;

use crate::durable::bench::{Counter, Heard, SOON, Watch, exec, job_id, journalled, start};
use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;

/// Why an attach was refused.
#[track_caller]
fn refusal(heard: &Heard) -> Refusal {
    match &heard.outcome.as_ref().expect("an end").ending {
        Ending::Refused { why, .. } => *why,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn another_operator_may_and_neither_a_worker_nor_a_stranger() {
    let fleet = Fleet::builder().secured().open_broker().worker("w1").start();
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    let bob = fleet.secured().member("bob", Standing::Operator);
    let watch = Watch::attach_with(&fleet, &bob, &id, AttachFrom::Start);
    watch.expect_more();
    let worker = fleet.secured().member("w9", Standing::Worker);
    let refused = Watch::attach_with(&fleet, &worker, &id, AttachFrom::Start).end();
    assert_eq!((refusal(&refused), refused.out.len()), (Refusal::NotYours, 0));
    let stranger = Watch::attach(&fleet, &id, AttachFrom::Start);
    // What a daemon says to it, it cannot prove to itself; so it is told, and hears no output.
    let stranger = stranger.end();
    assert_eq!((refusal(&stranger), stranger.out.len()), (Refusal::Unproven, 0));
    // Credit is not signed: it makes nobody a viewer, and nobody an answer.
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    let heard = raw.subscribe(&inbox);
    let credit = json!({"epoch": 1, "limit": 1 << 20, "frames": 1000, "out": 0, "err": 0}).to_string();
    raw.publish_reply(&format!("exec.w1.{id}.credit"), &inbox, credit);
    assert!(raw.next_on(heard, std::time::Duration::from_millis(500)).is_none());
    // The daemon is another one then; who may is as before, by the journal.
    let daemon = fleet.daemon("w1");
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    watch.expect_more();
    let refused = Watch::attach_with(&fleet, &worker, &id, AttachFrom::Start).end();
    assert_eq!(refusal(&refused), Refusal::NotYours);
    counter.stop();
    let heard = watch.end();
    assert_eq!(heard.code(), Some(7), "{:?}", heard.outcome);
    Counter::expect_whole(&heard.out, &heard.err);
    let refused = Watch::attach_with(&fleet, &worker, &id, AttachFrom::Start).end();
    assert_eq!(refusal(&refused), Refusal::NotYours, "also when it has ended");
    let late = Watch::attach_with(&fleet, &bob, &id, AttachFrom::Start).end();
    Counter::expect_whole(&late.out, &late.err);
}

#[test]
fn a_secured_server_carries_all_of_it() {
    let fleet = Fleet::builder().secured().worker("w1").start();
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    let bob = fleet.secured().member("bob", Standing::Operator);
    let watch = Watch::attach_with(&fleet, &bob, &id, AttachFrom::Start);
    watch.expect_more();
    let daemon = fleet.daemon("w1");
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    watch.expect_more();
    counter.stop();
    let heard = watch.end();
    assert_eq!(heard.code(), Some(7), "{:?}", heard.outcome);
    Counter::expect_whole(&heard.out, &heard.err);
}

#[test]
fn a_job_that_ends_with_its_caller_cannot_be_attached_to() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut live = exec(&fleet, &[], "echo on; until [ -e go ]; do sleep 0.02; done").spawn();
    live.stdout_line(SOON, |line| line == "on");
    let id = journalled(&fleet, "open").pop().unwrap();
    assert_eq!(refusal(&Watch::attach(&fleet, &id, AttachFrom::Start).end()), Refusal::NotDurable);
    std::fs::write(fleet.path().join("go"), "").unwrap();
    live.wait(SOON).expect_success();
    assert_eq!(refusal(&Watch::attach(&fleet, &id, AttachFrom::Start).end()), Refusal::NotDurable);
    assert_eq!(refusal(&Watch::attach(&fleet, &job_id(), AttachFrom::Start).end()), Refusal::NoSuchJob);
}

#[test]
fn who_only_reads_does_not_write() {
    let fleet = Fleet::of_workers(["w1"]);
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    let heard = raw.subscribe(&inbox);
    let attach = json!({"epoch": 1, "from": "now", "window": 1 << 20}).to_string();
    raw.publish_reply(&format!("exec.w1.{id}.attach"), &inbox, attach);
    raw.expect_on(heard, SOON, "accepted");
    raw.publish_reply(&format!("exec.w1.{id}.signal"), &inbox, json!({"n": 1, "signal": "KILL"}).to_string());
    let answer =
        raw.next_where(SOON, |message| message.header("D-Kind") == Some("answer")).expect("an answer");
    assert_eq!(answer.header("Nats-Service-Error"), Some("read_only"), "{answer:?}");
    counter.stop();
    assert_eq!(crate::durable::bench::ending(&fleet, &id), json!({"exited": {"code": 7}}));
}
