//! What `d` takes for success before there is a result: only the peer's own word makes it that.

use std::time::Duration;

use peerbus::identity::IdentityFile;
use peerbus::protocol::identity::Standing;
use serde_json::{Value, json};

use crate::harness::fleet::Fleet;
use crate::harness::nats::{Message, Raw};
use crate::harness::procs;
use crate::harness::speaker::{Said, job_id, now_ms};

const SOON: Duration = Duration::from_secs(20);

/// A peer that is played by the test: it has the identity of `w1`, where it wants to use it.
struct Stage {
    fleet: Fleet,
    raw: Raw,
    own: IdentityFile,
    thief: IdentityFile,
}

impl Stage {
    fn new() -> Stage {
        let fleet = Fleet::builder().secured().open_broker().start();
        let raw = Raw::connect(&fleet.server().url());
        let own = fleet.secured().identity("w1", Standing::Worker);
        let thief = fleet.secured().identity("w2", Standing::Worker);
        Stage { fleet, raw, own, thief }
    }

    /// A frame in answer to what somebody has said about a job.
    fn frame(to: &Message, job: &str, (epoch, seq, kind): (u64, u64, &str), body: &str) -> Said {
        let said = Said::unsigned(to.reply.as_deref().unwrap(), &format!("exec.w1.{job}.credit.1"), body);
        said.header("D-Epoch", epoch).header("D-Seq", seq).header("D-Kind", kind)
    }
}

fn accepted() -> Value {
    let instance = uuid::Uuid::new_v4().to_string();
    json!({ "instance": instance, "state": "running", "stdin_received": 0, "signals": 0, "durable": true })
}

/// Nothing has run, and somebody says that it does.
#[test]
fn nobody_says_for_a_peer_that_a_command_runs() {
    let mut stage = Stage::new();
    let requests = stage.raw.subscribe("exec.w1");
    let mut live = stage.fleet.spawn_d(["exec", "-d", "w1", "-C", "/", "--", "true"]);
    let asked = stage.raw.expect_on(requests, SOON, "the request");
    let id = asked.json()["id"].as_str().unwrap().to_owned();
    let runs = Stage::frame(&asked, &id, (1, 1, "accepted"), &accepted().to_string());
    runs.clone().say(&mut stage.raw);
    runs.clone().signed(&stage.thief).say(&mut stage.raw);
    // It goes on asking.
    let again = stage.raw.expect_on(requests, SOON, "the request, once more");
    assert_eq!(again.payload, asked.payload);
    assert!(live.ended().is_none() && live.stdout.text().is_empty());
    // The peer's own word is enough.
    runs.signed(&stage.own).say(&mut stage.raw);
    assert_eq!(live.wait(SOON).expect_success().out().trim(), id);
}

/// What `d logs` shows of a job that runs is followed by no result that would prove it.
#[test]
fn nobody_says_for_a_peer_what_a_job_has_printed() {
    let mut stage = Stage::new();
    let job = job_id();
    let lists = stage.raw.subscribe("exec.w1.jobs");
    let attaches = stage.raw.subscribe(&format!("exec.w1.{job}.attach"));
    let mut live = stage.fleet.spawn_d(["logs", &format!("w1/{job}")]);
    let question = stage.raw.expect_on(lists, SOON, "the question for the job");
    let row = json!({
        "id": job, "state": "running", "durable": true, "tty": false, "started_at": "2026-11-21T10:11:12Z",
        "age_ms": 1, "command": "x", "viewers": 0, "out": 5, "err": 0, "first_out": 0, "first_err": 0,
    });
    let page = json!({
        "type": "peerbus.jobs.v1", "peer": "w1", "instance": uuid::Uuid::new_v4().to_string(), "jobs": [row],
    });
    let page = Said::unsigned(question.reply.as_deref().unwrap(), "", page.to_string());
    page.signed(&stage.own).say(&mut stage.raw);
    let asked = stage.raw.expect_on(attaches, SOON, "the attach");
    assert_eq!(asked.json()["sealed"], true);
    let shows = |to: &Message, epoch: u64, text: &str| {
        let runs = Stage::frame(to, &job, (epoch, 1, "accepted"), &accepted().to_string());
        (runs, Stage::frame(to, &job, (epoch, 2, "out"), text).header("D-Offset", 0))
    };
    let (runs, lie) = shows(&asked, 1, "lie!\n");
    for said in
        [runs.clone(), lie.clone(), runs.clone().signed(&stage.thief), lie.clone().signed(&stage.thief)]
    {
        said.say(&mut stage.raw);
    }
    let again = stage.raw.expect_on(attaches, SOON, "the attach, once more");
    let epoch = again.json()["epoch"].as_u64().unwrap();
    // Nor what is said within a stream that the peer has begun.
    let (runs, truth) = shows(&again, epoch, "true\n");
    runs.signed_at(&stage.own, now_ms()).say(&mut stage.raw);
    let (_, lie) = shows(&again, epoch, "lie!\n");
    lie.say(&mut stage.raw);
    truth.signed(&stage.own).say(&mut stage.raw);
    assert_eq!(live.wait(SOON).expect_success().out(), "true\n");
}

/// Where somebody wants to leave before the end, a peer signs every frame.
#[test]
fn a_peer_signs_what_is_relied_on() {
    let fleet = Fleet::builder().secured().open_broker().worker("w1").start();
    let mut raw = Raw::connect(&fleet.server().url());
    let bob = fleet.secured().identity("bob", Standing::Operator);
    let line = "echo here; exec sleep 1000";
    let job = fleet.d(["exec", "-d", "w1", "-C", "/", "--sh", line]).expect_success().out().trim().to_owned();
    for sealed in [true, false] {
        let inbox = format!("_INBOX_bob.{}", uuid::Uuid::new_v4().simple());
        raw.subscribe(&inbox);
        let attach = json!({ "epoch": 1, "from": "start", "window": 65536, "sealed": sealed }).to_string();
        let subject = format!("exec.w1.{job}.attach");
        let attach = Said::unsigned(&subject, &inbox, attach);
        attach.clone().signed(&bob).say(&mut raw);
        let is_challenge = |message: &Message| message.header("D-Kind") == Some("challenge");
        let challenge = raw.next_where(SOON, is_challenge).expect("a challenge").json();
        let challenge = challenge["challenge"].as_str().unwrap();
        attach.header("D-Challenge", challenge).signed(&bob).say(&mut raw);
        for (kind, signs) in [("accepted", true), ("out", sealed)] {
            let is = |message: &Message| message.header("D-Kind") == Some(kind);
            let frame = raw.next_where(SOON, is).unwrap_or_else(|| panic!("no {kind}"));
            assert_eq!(frame.header("D-Signature").is_some(), signs, "{kind}: {frame:?}");
        }
    }
    assert_eq!(fleet.d(["logs", &format!("w1/{job}")]).expect_success().out(), "here\n");
    fleet.d(["stop", &format!("w1/{job}")]).expect_success();
}

/// Whoever reads `d` may be slow; a peer that goes on beyond its credit must not fill the memory meanwhile.
#[test]
fn a_peer_that_sends_more_than_it_was_granted_is_heard_no_further() {
    const PIECE: usize = 64 << 10;
    const MOST_HELD: u64 = 96 << 20;
    let mut stage = Stage::new();
    let requests = stage.raw.subscribe("exec.w1");
    let mut live = stage.fleet.command(["exec", "w1", "-C", "/", "--", "true"]).paused_output().spawn();
    let asked = stage.raw.expect_on(requests, SOON, "the request");
    let id = asked.json()["id"].as_str().unwrap().to_owned();
    let before = procs::resident_bytes(live.pid());
    Stage::frame(&asked, &id, (1, 1, "accepted"), &accepted().to_string())
        .signed(&stage.own)
        .say(&mut stage.raw);
    let piece = "x".repeat(PIECE);
    for at in 0..(500 << 20) / PIECE as u64 {
        let frame = Stage::frame(&asked, &id, (1, 2 + at, "out"), &piece);
        frame.header("D-Offset", at * PIECE as u64).say(&mut stage.raw);
    }
    stage.raw.barrier();
    let peak = procs::peak_resident_bytes(live.pid());
    assert!(peak <= before + MOST_HELD, "grew from {before} to {peak} bytes");
    live.stdout.resume();
    let ended = live.wait(SOON).expect_code(251);
    assert!(ended.err().contains("w1 sent more than it was granted"), "{}", ended.err());
    assert!((ended.stdout.len() as u64) < MOST_HELD);
}

/// A list of pages has an end, also where the peer has none.
#[test]
fn pages_that_do_not_advance_are_not_followed() {
    let mut stage = Stage::new();
    let instance = uuid::Uuid::new_v4().to_string();
    let row = json!({
        "id": job_id(), "state": "running", "durable": true, "tty": false, "started_at": "2026-11-21T10:11:12Z",
        "age_ms": 1, "command": "x", "viewers": 0, "out": 5, "err": 0, "first_out": 0, "first_err": 0,
    });
    let jobs = |jobs: Value| json!({ "type": "peerbus.jobs.v1", "peer": "w1", "instance": instance, "jobs": jobs, "next": row["id"] });
    let log = |lines: Value| {
        json!({
            "type": "peerbus.audit_page.v1", "peer_id": "w1", "instance": instance, "lines": lines,
            "next": { "file": 1, "offset": 1 }, "head": null,
        })
    };
    for (arguments, page) in [
        (&["jobs", "w1"][..], jobs(json!([row]))),
        (&["jobs", "w1"], jobs(json!([]))),
        (&["audit", "w1"], log(json!(["{}"]))),
        (&["audit", "w1", "--json"], log(json!([]))),
        (&["audit", "verify", "w1"], log(json!(["{}"]))),
    ] {
        let asked = stage.raw.subscribe(&format!("exec.w1.{}", arguments[0]));
        let mut live = stage.fleet.spawn_d(arguments);
        while live.ended().is_none() {
            let Some(question) = stage.raw.next_on(asked, Duration::from_millis(100)) else { continue };
            Said::unsigned(question.reply.as_deref().unwrap(), "", page.to_string())
                .signed(&stage.own)
                .say(&mut stage.raw);
        }
        let ended = live.wait(SOON);
        assert!(!matches!(ended.code(), None | Some(0)), "{ended:?}");
        let err = ended.err();
        assert!(err.contains("w1") && (err.contains("advance") || err.contains("others follow")), "{err}");
        stage.raw.unsubscribe(asked);
    }
}
