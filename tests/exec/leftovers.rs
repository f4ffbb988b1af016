//! Processes that outlive their command: people start servers on purpose, so they are left alone,
//! counted, and never killed by a closed pipe.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::bench::{PATIENCE, Report, both, sh_with};
use crate::harness::child::Finished;
use crate::harness::fleet::Fleet;
use crate::harness::procs;
use crate::harness::wait::eventually;

/// A server in the background that says something on stdout ever and again, and says on request
/// that it still lives after having done so.
fn server(marker: &str, place: &Path) -> String {
    let place = place.display();
    format!(
        "(until [ -e {place}/go ]; do sleep 0.05; done; echo word; echo word && touch {place}/alive; \
         while :; do sleep 1; done) & : {marker}"
    )
}

/// Runs a line in bash, without an exec of its own; returns what came back and the report.
#[track_caller]
fn run(fleet: &Fleet, line: &str) -> (Finished, Value) {
    let report = Report::new(fleet);
    let finished = sh_with(fleet, &["--report", &report.path()], line).run();
    (finished, report.read())
}

both!(
    a_server_that_holds_the_output_open_lives_on
    a_server_with_an_output_of_its_own_lives_on
    a_pipeline_that_is_just_ending_is_not_left_running
    output_after_the_commands_end_still_comes
    what_was_left_running_is_no_bother_to_the_next_job
);

fn a_server_that_holds_the_output_open_lives_on(fleet: &Fleet) {
    let marker = procs::marker();
    let (finished, report) = run(fleet, &format!("{}; echo started; exit 3", server(&marker, fleet.path())));
    let finished = finished.expect_code(3);
    assert_eq!((finished.out().as_str(), finished.err().as_str()), ("started\n", ""));
    // It waits for a while whether more is said, and not for ever.
    assert!(finished.took >= Duration::from_secs(2), "{finished:?}");
    let result = &report["result"];
    assert_eq!(
        (&result["output_open"], &result["killed"]),
        (&Value::Bool(true), &Value::from(0)),
        "{report}"
    );
    assert!(result["left_running"].as_u64() >= Some(1), "{report}");
    assert_eq!(report["ending"]["exited"]["code"], 3);

    let left = procs::wait_until_running(&marker, 1, PATIENCE);
    // What it says now nobody hears, and it does it no harm.
    std::fs::write(fleet.path().join("go"), "").unwrap();
    let alive = fleet.path().join("alive");
    eventually(PATIENCE, "the server to have lived through a word", || alive.exists().then_some(()));
    // One that is about to become `sleep` looks like the server for a moment.
    procs::wait_until_running(&marker, 1, PATIENCE);
    procs::kill_all(&left);
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

fn output_after_the_commands_end_still_comes(fleet: &Fleet) {
    // What is late is waited for two seconds, which a busy machine may take from it: hardly three times.
    let said = (0..3).find_map(|_| {
        let (finished, report) = run(fleet, "(sleep 0.5; echo late; echo later >&2) & echo early; exit 2");
        let finished = finished.expect_code(2);
        (report["result"]["output_open"] == false).then(|| (finished.out(), finished.err()))
    });
    assert_eq!(said, Some(("early\nlate\n".to_owned(), "later\n".to_owned())));
}

fn what_was_left_running_is_no_bother_to_the_next_job(fleet: &Fleet) {
    let marker = procs::marker();
    let line = format!("setsid sh -c 'exec -a {marker} sleep 1000' >/dev/null 2>&1 & echo left");
    run(fleet, &line).0.expect_success();
    let (finished, report) = run(fleet, "sleep 1000 & sleep 1000 & kill %1 %2; wait; echo next");
    assert_eq!(finished.expect_success().out(), "next\n");
    assert_eq!(report["result"]["left_running"], 0, "{report}");
}
