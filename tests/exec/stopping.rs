//! Stopping a command: Ctrl-C, a signal to `d`, `--timeout`, a closed output. When `d` has ended,
//! nothing of the command's tree runs, also where it began sessions of its own.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::bench::{
    MUCH_PATIENCE, PATIENCE, Report, both, bytes_written, fleet, own_lines, pid_of, says, settled, sh,
    sh_with,
};
use crate::harness::child::{Finished, Live};
use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;
use crate::harness::procs;
use crate::harness::wait::{eventually, within};

/// A tree that takes some finding: a child, a session of its own, an orphan whose parents have
/// ended, and one that left with a second fork into another session. All end at TERM.
fn tree(marker: &str) -> String {
    let child = format!("sh -c 'while :; do sleep 1; done' {marker}");
    format!(
        "{child} & setsid {child} & (setsid sh -c \"{child} & exit\" &) ; \
         perl -e 'exit if fork; setpgrp; exit if fork; exec @ARGV' -- {child} & \
         echo up; wait; sleep 1000"
    )
}

/// How many processes of [`tree`] carry the marker, with the shell that has it in its line.
const TREE: usize = 5;

/// Starts a line and returns once it has said `up` and all of it runs.
#[track_caller]
fn started(fleet: &Fleet, flags: &[&str], line: &str, marker: &str, count: usize) -> Live {
    let mut live = sh_with(fleet, flags, line).spawn();
    says(&mut live, "up");
    procs::wait_until_running(marker, count, PATIENCE);
    live
}

/// Waits for the end of `d`; nothing may be left at that moment.
#[track_caller]
fn gone(live: &mut Live, marker: &str, code: i32) -> Finished {
    let finished = live.wait(PATIENCE);
    let left = procs::with_argument(marker);
    assert!(left.is_empty(), "still there when d had ended: {left:#?}\n{finished:?}");
    finished.expect_code(code)
}

both!(
    ctrl_c_stops_the_whole_tree
    a_second_ctrl_c_kills_what_ignores_the_first
    being_ended_cancels
    a_timeout_stops_the_whole_tree
    a_timeout_kills_what_ignores_term
    head_is_enough
);

fn ctrl_c_stops_the_whole_tree(fleet: &Fleet) {
    let (marker, report) = (procs::marker(), Report::new(fleet));
    let mut live = started(fleet, &["--report", &report.path()], &tree(&marker), &marker, TREE);
    live.signal(Signal::SIGINT);
    let finished = gone(&mut live, &marker, 130);
    assert_eq!(finished.out(), "up\n");
    let report = report.read();
    assert_eq!(report["ending"]["signalled"]["signal"], "INT", "{report}");
    // Those that ignore INT, as a shell has its background commands do, had to be stopped.
    assert!(report["result"]["killed"].as_u64() > Some(0), "{report}");
    assert_eq!(report["result"]["left_running"], 0);
}

fn a_second_ctrl_c_kills_what_ignores_the_first(fleet: &Fleet) {
    let marker = procs::marker();
    let line = format!(
        "setsid sh -c 'trap \"\" INT TERM; while :; do sleep 1; done' {marker} & \
         trap 'echo caught' INT; trap '' TERM; echo up; while :; do sleep 0.1; done"
    );
    let mut live = started(fleet, &[], &line, &marker, 2);
    live.signal(Signal::SIGINT);
    says(&mut live, "caught");
    assert!(live.ended().is_none());
    live.signal(Signal::SIGINT);
    gone(&mut live, &marker, 128 + Signal::SIGKILL as i32);
}

fn being_ended_cancels(fleet: &Fleet) {
    for (signal, why) in
        [(Signal::SIGTERM, "d was ended"), (Signal::SIGHUP, "the caller's terminal was closed")]
    {
        let (marker, report) = (procs::marker(), Report::new(fleet));
        let mut live = started(fleet, &["--report", &report.path()], &tree(&marker), &marker, TREE);
        live.signal(signal);
        let finished = gone(&mut live, &marker, 130);
        assert_eq!(own_lines(&finished), [format!("d: cancelled: {why}")]);
        let report = report.read();
        assert_eq!(report["ending"], serde_json::json!({ "cancelled": { "why": why } }));
        assert!(report["result"]["killed"].as_u64() >= Some(TREE as u64), "{report}");
    }
}

fn a_timeout_stops_the_whole_tree(fleet: &Fleet) {
    let (marker, report) = (procs::marker(), Report::new(fleet));
    let flags = ["--timeout", "6s", "--report", &report.path()];
    let mut live = sh_with(fleet, &flags, &tree(&marker)).spawn();
    let finished = gone(&mut live, &marker, 252);
    assert_eq!(finished.out(), "up\n");
    let said = own_lines(&finished);
    assert!(said.len() == 1 && said[0].starts_with("d: timed out: "), "{finished:?}");
    assert!(finished.took >= Duration::from_secs(6), "{finished:?}");
    let report = report.read();
    assert_eq!(report["ending"], serde_json::json!({ "timed_out": {} }));
    assert_eq!(report["result"]["left_running"], 0);
}

fn a_timeout_kills_what_ignores_term(fleet: &Fleet) {
    let marker = procs::marker();
    let line = format!(
        "setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done' {marker} & \
         trap '' TERM; echo up; while :; do sleep 1; done"
    );
    let mut live = started(fleet, &["--timeout", "6s"], &line, &marker, 2);
    let finished = gone(&mut live, &marker, 252);
    assert!(
        finished.took >= Duration::from_secs(11),
        "they get their time to end by themselves: {finished:?}"
    );
}

fn head_is_enough(fleet: &Fleet) {
    let marker = procs::marker();
    let line = format!("sh -c 'while :; do sleep 1; done' {marker} & setsid yes {marker}");
    let report = Report::new(fleet);
    let mut live = sh_with(fleet, &["--report", &report.path()], &line).spawn();
    live.stdout_reaches(1000, PATIENCE);
    live.stdout.close();
    let finished = gone(&mut live, &marker, 141);
    assert_eq!(own_lines(&finished), <[String; 0]>::default(), "{finished:?}");
    let report = report.read();
    assert_eq!(report["exit_code"], 141);
    assert_eq!(report["ending"]["cancelled"]["why"], "the caller's output was closed", "{report}");
}

#[test]
fn in_a_real_pipeline() {
    let fleet = super::bench::fleet();
    let marker = procs::marker();
    let d = env!("CARGO_BIN_EXE_d");
    let script = format!(
        "{{ {d} exec w1 -C / --sh 'echo one; echo two; echo three; exec yes {marker}'; echo code $? >&2; }} | head -n 2"
    );
    let finished = fleet
        .command(["unused"])
        .instead("bash")
        .with(|command| _ = command.args(["-c", &script]))
        .run()
        .expect_success();
    assert_eq!((finished.out().as_str(), finished.err().as_str()), ("one\ntwo\n", "code 141\n"));
    procs::wait_until_gone(&marker, PATIENCE);
}

#[test]
fn a_timeout_comes_while_output_is_blocked() {
    let fleet = super::bench::fleet();
    let (marker, report) = (procs::marker(), Report::new(&fleet));
    let flags = ["--timeout", "6s", "--report", &report.path()];
    let line = format!("exec -a {marker} seq 1000000000");
    let mut live = sh_with(&fleet, &flags, &line).paused_output().spawn();
    pid_of(&marker);
    // Nobody reads, and it ends.
    procs::wait_until_gone(&marker, PATIENCE);
    assert!(live.ended().is_none(), "what was written waits for its reader");
    live.stdout.resume();
    let finished = live.wait(PATIENCE).expect_code(252);
    let result = &report.read()["result"];
    assert_eq!(result["out"]["bytes"], finished.stdout.len());
    assert_eq!(result["out"]["blake3"], blake3::hash(&finished.stdout).to_hex().as_str());
}

#[test]
fn ctrl_c_works_while_output_is_blocked() {
    let fleet = super::bench::fleet();
    let marker = procs::marker();
    let mut live = sh(&fleet, &format!("exec -a {marker} seq 1000000000")).paused_output().spawn();
    let pid = pid_of(&marker);
    settled(Duration::from_millis(500), "what the command wrote", || bytes_written(pid));
    live.signal(Signal::SIGINT);
    procs::wait_until_gone(&marker, PATIENCE);
    live.stdout.resume();
    live.wait(PATIENCE).expect_code(130);
}

#[test]
fn a_command_may_take_ctrl_c_as_it_likes() {
    let fleet = super::bench::fleet();
    let line = "trap 'echo tidying up; exit 5' INT; echo up; while :; do sleep 0.1; done";
    let mut live = sh(&fleet, line).spawn();
    says(&mut live, "up");
    live.signal(Signal::SIGINT);
    let finished = live.wait(PATIENCE).expect_code(5);
    assert_eq!((finished.out().as_str(), finished.err().as_str()), ("up\ntidying up\n", ""));
}

#[test]
fn whoever_presses_on_gets_away_from_a_peer_that_is_stuck() {
    let fleet = super::bench::fleet();
    let report = Report::new(&fleet);
    let mut live = sh_with(&fleet, &["--report", &report.path()], "echo up; sleep 1000").spawn();
    says(&mut live, "up");
    fleet.daemon("w1").freeze();
    // Two presses at the same moment are one.
    let pressed = eventually(PATIENCE, "d to end", || {
        live.signal(Signal::SIGINT);
        live.try_wait(Duration::from_millis(300))
    });
    fleet.daemon("w1").thaw();
    assert!(pressed.expect_code(251).err().contains("d: unknown: "));
    assert!(report.read()["ending"]["unknown"].is_object());
}

/// Somebody leaves a stuck peer while output that has come is not read: what they see of it in the end, all of it, and
/// how many bytes `d` says are missing.
fn leaves_with_output_on_its_way(reads_again: bool) -> (Vec<u8>, Vec<u8>, usize) {
    let fleet = super::bench::fleet();
    let mut raw = Raw::connect(&fleet.url());
    let frames = raw.subscribe("_INBOX.>");
    raw.barrier();
    let mut live = sh(&fleet, "seq 1 60000; sleep 1000").paused_output().spawn();
    let whole: Vec<u8> = (1..=60000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    let mut came = 0;
    while came < whole.len() {
        let frame = raw.expect_on(frames, PATIENCE, "a frame");
        came += if frame.header("D-Kind") == Some("out") { frame.payload.len() } else { 0 };
    }
    fleet.daemon("w1").freeze();
    let mut presses = 0;
    eventually(PATIENCE, "d to end", || {
        live.signal(Signal::SIGINT);
        presses += 1;
        if reads_again && presses == 3 {
            live.stdout.resume();
        }
        within(Duration::from_millis(300), || live.ended())
    });
    fleet.daemon("w1").thaw();
    live.stdout.resume();
    let said = live.wait(PATIENCE).expect_code(251).err();
    let number = said.split_once("stands still: up to ").and_then(|(_, rest)| rest.split_once(" bytes"));
    let missing = number.map_or(0, |(number, _)| number.parse().expect("a number of bytes"));
    (live.stdout.bytes(), whole, missing)
}

#[test]
fn whoever_gets_away_sees_what_has_come() {
    for reads_again in [true, false] {
        let (shown, whole, missing) = leaves_with_output_on_its_way(reads_again);
        assert!(whole.starts_with(&shown), "byte for byte");
        assert!(shown.len() + missing >= whole.len(), "{} shown, {missing} said to be missing", shown.len());
        assert!(reads_again || missing > 0, "nobody has read it");
    }
}

#[test]
fn ctrl_c_before_the_peer_has_answered() {
    let fleet = super::bench::fleet();
    let marker = procs::marker();
    fleet.daemon("w1").freeze();
    let mut live = sh(&fleet, &format!(": {marker}; sleep 1000")).spawn();
    // Its request is there once the server has it.
    let mut ear = crate::harness::nats::Raw::connect(&fleet.url());
    let sid = ear.subscribe("exec.w1");
    ear.expect_on(sid, PATIENCE, "the repeated request");
    live.signal(Signal::SIGINT);
    assert!(live.try_wait(Duration::from_millis(300)).is_none(), "nobody can say yet what became of it");
    fleet.daemon("w1").thaw();
    live.wait(MUCH_PATIENCE).expect_code(130);
    procs::wait_until_gone(&marker, PATIENCE);
}

/// `nohup`, `trap '' TERM`, and a shell that keeps Ctrl-C from what it starts in the background.
#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let fleet = fleet();
    let go = fleet.path().join("go");
    let line = format!("echo up; until [ -e {} ]; do sleep 0.05; done; echo on", go.display());
    let place = fleet.path().to_string_lossy().into_owned();
    let job = fleet.d(["exec", "-d", "w1", "-C", &place, "--sh", &line]).expect_success().out();
    let job = format!("w1/{}", job.trim());
    let ignoring = |arguments: &[&str]| {
        let arguments =
            [&["-c", "trap '' HUP TERM INT QUIT; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_d")], arguments];
        fleet.command(["unused"]).instead("sh").with(|command| _ = command.args(arguments.concat())).spawn()
    };
    let mut all = [
        ignoring(&["exec", "w1", "-C", &place, "--sh", &line]),
        ignoring(&["exec", "--durable", "w1", "-C", &place, "--sh", &line]),
        ignoring(&["exec", "-t", "w1", "-C", &place, "--sh", &line]),
        ignoring(&["attach", &job]),
        ignoring(&["logs", "-f", &job]),
    ];
    for live in &mut all {
        assert!(live.stdout.contains(b"up", PATIENCE), "up: {}", live.stderr.text());
        for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
            live.signal(signal);
        }
    }
    std::fs::write(go, "").unwrap();
    for live in &mut all {
        let finished = live.wait(PATIENCE).expect_success();
        assert!(finished.out().trim_end().ends_with("on"), "{finished:?}");
    }
}
