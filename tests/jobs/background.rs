//! Durable jobs, which go on whatever becomes of who has started them: listed, named, signalled,
//! stopped and waited for.

use serde_json::json;

use crate::bench::{SOON, detached, held_back, ids, job_id, listed, short, three};
use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;
use crate::harness::procs;
use crate::harness::wait::eventually;

/// A session's worth of a name.
#[track_caller]
fn named(fleet: &Fleet, peer: &str, name: &str, line: &str) -> String {
    let job = job_id();
    let request = json!({ "id": job, "shell_cmd": line, "directory": "/", "durable": true, "name": name });
    let answer =
        Raw::connect(&fleet.url()).request(&format!("exec.{peer}"), request.to_string(), SOON).json();
    assert_eq!((&answer["type"], &answer["id"]), (&json!("peerbus.started.v1"), &json!(job)), "{answer}");
    job
}

#[test]
fn a_durable_job_is_listed_with_all_that_is_known_of_it() {
    let fleet = three();
    let job = detached(&fleet, "w1", "printf 1234567; printf 123 >&2; exec sleep 1000");
    let row = eventually(SOON, "what it has printed", || {
        listed(&fleet, &["w1"]).into_iter().find(|row| row["out"] == 7 && row["err"] == 3)
    });
    assert_eq!(
        (&row["id"], &row["durable"], &row["tty"]),
        (&json!(job), &json!(true), &json!(false)),
        "{row}"
    );
    assert_eq!((&row["first_out"], &row["first_err"]), (&json!(0), &json!(0)), "{row}");
    assert_eq!(row["viewers"], 0, "{row}");
    let mut watching = fleet.spawn_d(["attach", &job, "--watch"]);
    assert!(watching.stdout.contains(b"1234567", SOON));
    eventually(SOON, "its viewer", || (listed(&fleet, &["w1"])[0]["viewers"] == 1).then_some(()));
    fleet.d(["stop", short(&job)]).expect_success();
    watching.wait(SOON).expect_code(130);
    assert!(procs::with_environment("PEERBUS_JOB", &job).is_empty(), "something is left");
    let row = listed(&fleet, &["w1", "-a"]).remove(0);
    assert_eq!(
        (&row["state"], &row["out"], &row["first_out"]),
        (&json!("ended"), &json!(7), &json!(0)),
        "{row}"
    );
    assert!(row["ending"]["cancelled"]["why"].as_str().unwrap().starts_with("stopped by "), "{row}");
}

#[test]
fn a_name_means_the_session_that_runs_and_else_the_one_there_was() {
    let fleet = three();
    let before = named(&fleet, "w1", "build", "exit 5");
    fleet.d(["wait", "build"]).expect_code(5);
    let now = named(&fleet, "w2", "build", "exec sleep 1000");
    assert_eq!(listed(&fleet, &[])[0]["name"], "build");
    let stopped = fleet.d(["stop", "build"]).expect_success();
    assert!(stopped.out().starts_with(&format!("{} on w2 has ended", short(&now))), "{stopped:?}");
    let refused = fleet.d(["logs", "build"]).expect_code(2);
    assert!(refused.err().contains(&before) && refused.err().contains(&now), "{refused:?}");
    fleet.d(["wait", "w1/build"]).expect_code(5);
}

#[test]
fn a_signal_comes_to_a_durable_job_from_whoever_may_stop_it() {
    let fleet = three();
    let job = detached(&fleet, "w1", "trap 'exit 12' HUP; echo here; while :; do sleep 0.1; done");
    eventually(SOON, "the trap", || (listed(&fleet, &["w1"])[0]["out"] == 5).then_some(()));
    let said = fleet.d(["stop", &job, "--signal", "HUP"]).expect_success();
    assert_eq!(said.out(), format!("sent HUP to {} on w1\n", short(&job)));
    fleet.d(["wait", &job]).expect_code(12);
    fleet.d(["stop", &job, "--signal", "HUP"]).expect_code(1);
}

#[test]
fn wait_gives_the_code_of_a_job_whose_daemon_was_killed_and_started_meanwhile() {
    let fleet = three();
    let go = fleet.path().join("go");
    let line = format!("until [ -e {} ]; do sleep 0.05; done; exit 42", go.display());
    let jobs: Vec<String> = (0..3).map(|_| detached(&fleet, "w1", &line)).collect();
    let mut waiting: Vec<_> = jobs.iter().map(|job| held_back(&fleet, &format!("w1/{job}"))).collect();
    let daemon = fleet.daemon("w1");
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    let running = listed(&fleet, &["w1"]);
    assert_eq!(ids(&running).len(), 3, "{running:?}");
    assert!(running.iter().all(|row| row["state"] == "running"), "{running:?}");
    // One ends while there is no daemon at all.
    daemon.kill9();
    std::fs::write(&go, "").unwrap();
    daemon.start();
    daemon.wait_until_ready();
    for waiting in &mut waiting {
        waiting.wait(SOON * 2).expect_code(42);
    }
    assert!(listed(&fleet, &["w1"]).is_empty());
}
