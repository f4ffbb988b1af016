//! Processes that outlive their command. What they have yet to say is waited for, as ssh does it, unless they look like
//! servers: those people start on purpose, so they are left alone, named, and never killed by a closed pipe.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::bench::{PATIENCE, Report, both, sh_with};
use crate::harness::child::{Finished, Live};
use crate::harness::fleet::Fleet;
use crate::harness::procs;
use crate::harness::wait::eventually;

/// The words that tell whose output is waited for.
const WAITING: &str = "d: the command has ended; still waiting for the output of: ";

/// A line whose command ends at once, and leaves its output to somebody who speaks when a file `go` is there.
fn leaves(marker: &str, fleet: &Fleet) -> String {
    let go = fleet.path().join("go");
    format!(
        "bash -c 'until [ -e {} ]; do sleep 0.05; done; echo late; echo later >&2' {marker} & echo early; exit 2",
        go.display()
    )
}

/// Starts such a line, and returns once `d` has said whose output it waits for.
#[track_caller]
fn waits(fleet: &Fleet, flags: &[&str], marker: &str) -> Live {
    let mut live = sh_with(fleet, flags, &leaves(marker, fleet)).spawn();
    live.stderr_line(PATIENCE, |line| line.starts_with(WAITING) && line.contains("Ctrl-C or --no-wait"));
    live
}

/// Runs a line in bash, without an exec of its own; returns what came back and the report.
#[track_caller]
fn run(fleet: &Fleet, line: &str) -> (Finished, Value) {
    let report = Report::new(fleet);
    let finished = sh_with(fleet, &["--report", &report.path()], line).run();
    (finished, report.read())
}

both!(
    servers_that_hold_the_output_open_live_on
    a_server_with_an_output_of_its_own_lives_on
    a_pipeline_that_is_just_ending_is_not_left_running
    output_that_is_still_to_come_is_waited_for
    an_interrupt_leaves_the_output_to_who_holds_it
    who_interrupts_a_command_waits_for_nobody_it_leaves
    without_waiting_it_ends_with_its_command
    a_timeout_counts_to_the_end_of_the_output
    to_stop_it_stops_who_holds_the_output
    what_was_left_running_is_no_bother_to_the_next_job
);

fn servers_that_hold_the_output_open_live_on(fleet: &Fleet) {
    for how in ["nohup", "setsid"] {
        let (marker, place) = (procs::marker(), fleet.path().join(how));
        std::fs::create_dir(&place).unwrap();
        // It says something on stdout when it is asked to, and that it still lives after having done so.
        let place = place.display();
        let server = format!(
            "until [ -e {place}/go ]; do sleep 0.05; done; echo word; echo word && touch {place}/alive; \
             while :; do sleep 1; done"
        );
        let line = format!("{how} bash -c '{server}' {marker} </dev/null & echo started; exit 3");
        let (finished, report) = run(fleet, &line);
        let finished = finished.expect_code(3);
        assert_eq!(finished.out(), "started\n");
        assert!(finished.err().starts_with("d: left running on w1: "), "{finished:?}");
        let result = &report["result"];
        assert_eq!(
            (&result["output_open"], &result["killed"], &result["held_by"][0]["server"]),
            (&Value::Bool(true), &Value::from(0), &Value::Bool(true)),
            "{report}"
        );
        assert!(result["left_running"].as_u64() >= Some(1), "{report}");
        assert_eq!((&report["ending"]["exited"]["code"], &report["output_lost"]), (&3.into(), &Value::Null));

        let left = procs::wait_until_running(&marker, 1, PATIENCE);
        // What it says now nobody hears, and it does it no harm.
        std::fs::write(format!("{place}/go"), "").unwrap();
        let alive = fleet.path().join(how).join("alive");
        eventually(PATIENCE, "the server to have lived through a word", || alive.exists().then_some(()));
        procs::kill_all(&left);
    }
}

fn a_server_with_an_output_of_its_own_lives_on(fleet: &Fleet) {
    let marker = procs::marker();
    let line = format!(
        "setsid sh -c 'exec sleep 1000' {marker} </dev/null >/dev/null 2>&1 & \
         until [ \"$(ps -o sid= $!)\" -eq $! ]; do :; done; echo $!"
    );
    let (finished, report) = run(fleet, &line);
    let finished = finished.expect_success();
    let pid: i32 = finished.out().trim().parse().unwrap();
    let result = &report["result"];
    assert_eq!(
        (&result["output_open"], &result["left_running"]),
        (&Value::Bool(false), &Value::from(1)),
        "{report}"
    );
    let job = report["id"].as_str().unwrap();
    let left = procs::of_job(job);
    assert_eq!(left.iter().map(|process| process.pid).collect::<Vec<_>>(), [pid]);
    procs::kill_all(&left);
}

fn a_pipeline_that_is_just_ending_is_not_left_running(fleet: &Fleet) {
    for _ in 0..10 {
        let (finished, report) = run(fleet, "yes | head -n 1000 | cat | tail -n 1");
        assert_eq!(finished.expect_success().out(), "y\n");
        let result = &report["result"];
        assert_eq!((&result["output_open"], &result["left_running"]), (&Value::Bool(false), &Value::from(0)));
    }
}

fn output_that_is_still_to_come_is_waited_for(fleet: &Fleet) {
    let (marker, report) = (procs::marker(), Report::new(fleet));
    let mut live = waits(fleet, &["--report", &report.path()], &marker);
    std::fs::write(fleet.path().join("go"), "").unwrap();
    let finished = live.wait(PATIENCE).expect_code(2);
    assert_eq!(finished.out(), "early\nlate\n");
    assert!(finished.err().ends_with("\nlater\n"), "{finished:?}");
    let report = report.read();
    let result = &report["result"];
    assert_eq!((&result["output_open"], result.get("held_by")), (&Value::Bool(false), None), "{report}");
}

fn an_interrupt_leaves_the_output_to_who_holds_it(fleet: &Fleet) {
    let (marker, report) = (procs::marker(), Report::new(fleet));
    let mut live = waits(fleet, &["--report", &report.path()], &marker);
    live.signal(Signal::SIGINT);
    let finished = live.wait(PATIENCE).expect_code(251);
    assert_eq!(finished.out(), "early\n");
    assert!(finished.err().contains("d: output was cut: "), "{finished:?}");
    assert!(finished.err().contains("d: left running on w1: "), "{finished:?}");
    assert!(report.read()["output_lost"].is_string());
    procs::kill_all(&procs::wait_until_running(&marker, 1, PATIENCE));
}

/// The command takes the interrupt and ends well; what it has started does not heed it.
fn who_interrupts_a_command_waits_for_nobody_it_leaves(fleet: &Fleet) {
    let marker = procs::marker();
    let line = format!(
        "trap 'exit 0' INT; (trap '' INT; echo here; exec bash -c 'sleep 1000; true' {marker}) & wait"
    );
    let mut live = sh_with(fleet, &[], &line).spawn();
    live.stdout_line(PATIENCE, |line| line == "here");
    // The command itself carries the marker too: its line names it.
    let left = procs::wait_until_running(&marker, 2, PATIENCE);
    live.signal(Signal::SIGINT);
    let finished = live.wait(PATIENCE).expect_code(251);
    assert!(finished.err().contains("d: output was cut: it was interrupted"), "{finished:?}");
    assert!(finished.err().contains("d: left running on w1: "), "{finished:?}");
    procs::kill_all(&left);
}

fn without_waiting_it_ends_with_its_command(fleet: &Fleet) {
    let marker = procs::marker();
    let finished = sh_with(fleet, &["--no-wait"], &leaves(&marker, fleet)).run().expect_code(2);
    assert_eq!(finished.out(), "early\n");
    assert!(finished.err().starts_with("d: left running on w1: "), "{finished:?}");
    procs::kill_all(&procs::wait_until_running(&marker, 1, PATIENCE));
}

fn a_timeout_counts_to_the_end_of_the_output(fleet: &Fleet) {
    let marker = procs::marker();
    let finished = sh_with(fleet, &["--timeout", "2s"], &leaves(&marker, fleet)).run().expect_code(252);
    assert_eq!(finished.out(), "early\n");
    assert!(procs::with_argument(&marker).is_empty());
}

fn to_stop_it_stops_who_holds_the_output(fleet: &Fleet) {
    let marker = procs::marker();
    let mut live = waits(fleet, &[], &marker);
    let jobs = fleet.d(["jobs", "w1", "--json"]).expect_success().out();
    let job: Value = serde_json::from_str(jobs.lines().next().unwrap()).unwrap();
    let job = format!("w1/{}", job["id"].as_str().unwrap());
    fleet.d(["stop", &job]).expect_success();
    let finished = live.wait(PATIENCE).expect_code(251);
    assert!(finished.err().contains("d: output was cut: "), "{finished:?}");
    let waited = fleet.d(["wait", &job]).expect_code(251);
    assert!(waited.err().contains("d: output was cut: "), "{waited:?}");
    assert!(procs::with_argument(&marker).is_empty());
}

fn what_was_left_running_is_no_bother_to_the_next_job(fleet: &Fleet) {
    let marker = procs::marker();
    let line = format!("setsid sh -c 'exec -a {marker} sleep 1000' >/dev/null 2>&1 & echo left");
    run(fleet, &line).0.expect_success();
    let (finished, report) = run(fleet, "sleep 1000 & sleep 1000 & kill %1 %2; wait; echo next");
    assert_eq!(finished.expect_success().out(), "next\n");
    assert_eq!(report["result"]["left_running"], 0, "{report}");
}
