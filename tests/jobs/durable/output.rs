//! The output of durable jobs: whole to the byte, for the caller and for whoever attaches, from wherever.

use peerbus::protocol::attach::AttachFrom;
use peerbus::protocol::send_buffer::StreamOffsets;
use serde_json::json;

use crate::durable::bench::{
    Counter, SOON, Watch, audited, ending, exec, job_id, journalled, read_all, request, result, segment,
    start,
};
use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;
use crate::harness::wait::eventually;

/// Both outputs by turns, in pieces of many sizes, with bytes that are no text.
const MIXED: &str = "for i in $(seq 1 400); do head -c $((i * 7)) /dev/urandom | tee -a out.copy; \
    head -c $((i * 3)) /dev/urandom | tee -a err.copy >&2; done; exit 9";

fn copies(fleet: &Fleet) -> (Vec<u8>, Vec<u8>) {
    let read = |name: &str| std::fs::read(fleet.path().join(name)).unwrap();
    (read("out.copy"), read("err.copy"))
}

#[test]
fn the_caller_gets_every_byte_and_the_exit_code() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut live = exec(&fleet, &["--durable"], MIXED).spawn();
    let finished = live.wait(SOON).expect_code(9);
    let (out, err) = copies(&fleet);
    assert!(live.stdout.bytes() == out && live.stderr.bytes() == err, "{finished:?}");
}

#[test]
fn what_was_left_running_is_read_elsewhere_from_the_start_and_from_the_middle() {
    let fleet = Fleet::of_workers(["w1"]);
    let id = start(&fleet, MIXED);
    let whole = read_all(&fleet, &id);
    assert_eq!(whole.code(), Some(9), "{:?}", whole.outcome);
    let (out, err) = copies(&fleet);
    assert!(whole.out == out && whole.err == err);
    // It has ended by now; the log is read as before.
    let again = read_all(&fleet, &id);
    assert!(again.out == out && again.err == err && again.code() == Some(9));
    let total = (out.len() + err.len()) as u64;
    for at in [1, total / 3, total / 2, total - 1, total] {
        let part = Watch::attach(&fleet, &id, AttachFrom::Byte(at)).end();
        let from = part.accepted.as_ref().expect("accepted").from.unwrap_or_default();
        assert_eq!(from.sum(), at);
        let (begin_out, begin_err) = (usize::try_from(from.out).unwrap(), usize::try_from(from.err).unwrap());
        assert!(part.out == out[begin_out..] && part.err == err[begin_err..], "from {at}");
        assert_eq!(part.code(), Some(9));
    }
    let beyond = Watch::attach(&fleet, &id, AttachFrom::Byte(total + 1_000)).end();
    assert_eq!((beyond.out.len(), beyond.err.len(), beyond.code()), (0, 0, Some(9)));
    let now = Watch::attach(&fleet, &id, AttachFrom::Now).end();
    assert_eq!(
        now.accepted.expect("accepted").from,
        Some(StreamOffsets { out: out.len() as u64, err: err.len() as u64 })
    );
}

#[test]
fn who_attaches_leaves_and_comes_again_misses_nothing() {
    let fleet = Fleet::of_workers(["w1"]);
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    let first = Watch::attach(&fleet, &id, AttachFrom::Start);
    first.expect_more();
    first.detach();
    let before = first.end();
    let at = before.left_at.expect("left");
    assert_eq!(at, (before.out.len() + before.err.len()) as u64);
    let second = Watch::attach(&fleet, &id, AttachFrom::Byte(at));
    second.expect_more();
    counter.stop();
    let after = second.end();
    assert_eq!(after.code(), Some(7), "{:?}", after.outcome);
    Counter::expect_whole(&[before.out, after.out].concat(), &[before.err, after.err].concat());
    assert_eq!(counter.pids().len(), 1);
}

#[test]
fn a_plain_request_is_answered_when_it_runs() {
    let fleet = Fleet::of_workers(["w1"]);
    let counter = Counter::new(&fleet, "c");
    let id = job_id();
    let request = request(&fleet, &id, &counter.line()).to_string();
    let mut raw = Raw::connect(&fleet.url());
    let started = raw.request("exec.w1", &request, SOON).json();
    assert_eq!((&started["type"], &started["id"]), (&json!("peerbus.started.v1"), &json!(id)), "{started}");
    // It is told again, and does not run again.
    assert_eq!(raw.request("exec.w1", &request, SOON).json(), started);
    let running = result(&fleet, &id);
    assert_eq!(running.header("Nats-Service-Error"), Some("running"), "{running:?}");
    assert_eq!(raw.request("exec.w1.ping", "", SOON).json()["jobs"], 1);
    counter.stop();
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 7}}));
    assert_eq!(raw.request("exec.w1", &request, SOON).json(), started);
    let whole = read_all(&fleet, &id);
    Counter::expect_whole(&whole.out, &whole.err);
    assert_eq!(counter.pids().len(), 1);
    assert_eq!(audited(&fleet, &id), ["begun", "ended"]);
}

#[test]
fn what_cannot_be_started_is_said_and_nothing_is_left() {
    let fleet = Fleet::of_workers(["w1"]);
    for flags in [["-d"].as_slice(), &["--durable"]] {
        let words = ["exec", "w1", "-C", "/"].into_iter().chain(flags.iter().copied());
        let words = words.chain(["--", "/no/such/program"]).collect::<Vec<_>>();
        let finished = fleet.command(words).run().expect_code(127);
        assert!(finished.out().is_empty() && finished.err().contains("/no/such/program"), "{finished:?}");
    }
    let nowhere = fleet.command(["exec", "-d", "w1", "-C", "/no/such/place", "--", "true"]).run();
    assert!(nowhere.expect_code(249).out().is_empty());
}

#[test]
fn what_is_over_before_it_could_be_left_was_started_all_the_same() {
    let fleet = Fleet::of_workers(["w1"]);
    let id = start(&fleet, "exit 3");
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 3}}));
}

/// An id that nobody has got is that of a job nobody knows of.
#[test]
fn an_id_that_cannot_be_written_is_said() {
    let fleet = Fleet::of_workers(["w1"]);
    let full = exec(&fleet, &["-d"], "exec sleep 1000").output_to("/dev/full").run().expect_code(74);
    let id = journalled(&fleet, "open").pop().unwrap();
    assert!(full.err().contains(&format!("; the job goes on, as w1/{id}\n")), "{full:?}");
    fleet.d(["stop", &format!("w1/{id}")]).expect_success();
}

/// The first word of the job gets lost, and the caller hears of it once it has asked again.
#[test]
fn who_leaves_as_soon_as_it_runs_may_hear_of_it_late() {
    let fleet = Fleet::builder().start();
    let mut raw = Raw::connect(&fleet.url());
    let (requests, resumes) = (raw.subscribe("exec.w1"), raw.subscribe("exec.w1.*.resume"));
    let mut live = fleet.spawn_d(["exec", "-d", "w1", "-C", "/", "--", "true"]);
    let asked = raw.expect_on(requests, SOON, "the request");
    let (id, inbox) = (asked.json()["id"].as_str().unwrap().to_owned(), asked.reply.unwrap());
    let credit = format!("exec.w1.{id}.credit.1");
    let output = [("D-Epoch", "1"), ("D-Seq", "2"), ("D-Kind", "out"), ("D-Offset", "0")];
    raw.publish_headers(&inbox, &credit, &output, "x");
    let epoch = raw.expect_on(resumes, SOON, "a resume").json()["epoch"].to_string();
    let runs = json!({
        "instance": "11111111-2222-4333-8444-555555555555", "state": "running", "stdin_received": 0, "signals": 0,
        "durable": true,
    });
    let headers = [("D-Epoch", epoch.as_str()), ("D-Seq", "1"), ("D-Kind", "accepted")];
    raw.publish_headers(&inbox, &credit, &headers, runs.to_string());
    assert_eq!(live.wait(SOON).expect_success().out().trim(), id);
}

#[test]
fn interrupting_the_caller_interrupts_the_command_as_ever() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut live =
        exec(&fleet, &["--durable"], "trap 'echo heard; exit 5' INT; echo on; while :; do sleep 0.1; done")
            .spawn();
    live.stdout_line(SOON, |line| line == "on");
    live.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(live.wait(SOON).expect_code(5).out(), "on\nheard\n");
}

/// What has come and is not written yet is not said to have been shown.
#[test]
fn ending_a_caller_that_is_behind_loses_nothing() {
    let fleet = Fleet::of_workers(["w1"]);
    let line = "echo on; until [ -e more ]; do sleep 0.02; done; seq 1 300000; \
                until [ -e go ]; do sleep 0.02; done; exit 7";
    let mut live = exec(&fleet, &["--durable"], line).spawn();
    live.stdout_line(SOON, |line| line == "on");
    live.stdout.pause();
    std::fs::write(fleet.path().join("more"), "").unwrap();
    let id = journalled(&fleet, "open").pop().expect("its record");
    let seq = std::process::Command::new("seq").args(["1", "300000"]).output().unwrap();
    let whole = [b"on\n", seq.stdout.as_slice()].concat();
    let bytes = segment(&fleet, &id);
    let logged = || std::fs::metadata(&bytes).is_ok_and(|log| log.len() as usize == whole.len());
    eventually(SOON, "its output in the log", || logged().then_some(()));
    live.signal(nix::sys::signal::Signal::SIGTERM);
    live.stdout.resume();
    let finished = live.wait(SOON).expect_code(251);
    let said = finished.err();
    let at = said.split(" --since-byte ").nth(1).and_then(|rest| rest.split('`').next()).expect(&said);
    // Where nobody has read for long, the end of what is shown may be shown again.
    let (shown, at) = (live.stdout.bytes(), at.parse::<usize>().unwrap());
    assert!(at <= shown.len(), "{at} of {}", shown.len());
    std::fs::write(fleet.path().join("go"), "").unwrap();
    let rest = Watch::attach(&fleet, &id, AttachFrom::Byte(at as u64)).end();
    assert_eq!(rest.code(), Some(7));
    assert!([&shown[..at], &rest.out].concat() == whole, "byte for byte");
}

#[test]
fn ending_the_caller_leaves_the_command_and_says_how_to_go_on() {
    let fleet = Fleet::of_workers(["w1"]);
    let counter = Counter::new(&fleet, "c");
    let mut live = exec(&fleet, &["--durable"], &counter.line()).spawn();
    live.stdout_line(SOON, |line| line == "line 3");
    live.signal(nix::sys::signal::Signal::SIGTERM);
    let finished = live.wait(SOON).expect_code(251);
    let said = finished.err();
    let hint = said.lines().find(|line| line.starts_with("d: ")).expect("a line of d's own");
    let word = hint.split('`').nth(1).expect("a command to type");
    let (job, at) = word.strip_prefix("d attach w1/").expect(word).split_once(" --since-byte ").expect(word);
    let at: u64 = at.parse().unwrap();
    let rest = Watch::attach(&fleet, job, AttachFrom::Byte(at));
    rest.expect_more();
    counter.stop();
    let rest = rest.end();
    assert_eq!(rest.code(), Some(7));
    let before_err: String =
        said.lines().filter(|line| line.starts_with("note")).map(|line| format!("{line}\n")).collect();
    assert_eq!(at, (finished.out().len() + before_err.len()) as u64, "{finished:?}");
    Counter::expect_whole(
        &[finished.out().into_bytes(), rest.out].concat(),
        &[before_err.into_bytes(), rest.err].concat(),
    );
}
