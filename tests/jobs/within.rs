//! A job that would show itself is refused: it would print for ever what it prints.

use crate::bench::{SOON, detached, listed};
use crate::harness::fleet::Fleet;
use crate::harness::wait::eventually;

/// `d` as a job of this fleet runs it.
fn d(fleet: &Fleet) -> String {
    format!("{} --nats {}", env!("CARGO_BIN_EXE_d"), fleet.url())
}

#[test]
fn a_job_that_follows_itself_is_refused() {
    let fleet = Fleet::of_workers(["w1"]);
    let d = d(&fleet);
    let line = format!(
        "echo once
         for verb in attach 'attach --watch' 'logs -f'; do {d} $verb w1/$PEERBUS_JOB 2>&1; echo \"code $?\"; done
         {d} logs w1/$PEERBUS_JOB | grep -c once
         {d} exec w1 -C / --sh '{d} attach w1/'$PEERBUS_JOB 2>&1; echo \"code $?\""
    );
    let shown = fleet.d(["exec", "--durable", "w1", "-C", "/tmp", "--sh", &line]).expect_success().out();
    assert_eq!(shown.matches("would show itself").count(), 4, "{shown}");
    assert_eq!(shown.matches("code 250").count(), 4, "{shown}");
    assert_eq!(shown.lines().filter(|line| *line == "once").count(), 1, "{shown}");
    assert!(shown.lines().any(|line| line == "1"), "what it has printed so far it may read: {shown}");
}

/// Sitting down at it is another way.
#[test]
fn a_terminal_that_shows_itself_is_refused() {
    let fleet = Fleet::of_workers(["w1"]);
    let line = format!("{} session attach w1/$PEERBUS_JOB; echo \"code $?\"", d(&fleet));
    let job = fleet.d(["session", "new", "-d", "w1", "--", "sh", "-c", &line]).expect_success().out();
    let job = format!("w1/{}", job.trim());
    fleet.d(["wait", &job]).expect_success();
    let shown = fleet.d(["logs", &job]).expect_success().out();
    assert!(shown.contains("would show itself") && shown.contains("code 250"), "{shown}");
}

#[test]
fn two_jobs_that_follow_each_other_from_two_peers_are_refused() {
    let fleet = Fleet::of_workers(["w1", "w2"]);
    let d = d(&fleet);
    let (go, first) = (fleet.path().join("go"), fleet.path().join("first"));
    let line = format!(
        "until [ -e {} ]; do sleep 0.05; done; {d} logs -f w1/$(cat {}) 2>&1; echo \"code $?\"",
        go.display(),
        first.display()
    );
    let second = detached(&fleet, "w2", &line);
    let one = detached(&fleet, "w1", &format!("exec {d} logs -f w2/{second}"));
    std::fs::write(&first, &one).unwrap();
    let watched = || {
        let rows = listed(&fleet, &["w2"]);
        (rows[0]["watched_from"][0]["job"] == *one).then_some(())
    };
    eventually(SOON, "the first to follow the second", watched);
    std::fs::write(&go, "").unwrap();
    fleet.d(["wait", &format!("w1/{one}")]).expect_success();
    let shown = fleet.d(["logs", &format!("w1/{one}")]).expect_success().out();
    assert!(shown.contains("would show itself") && shown.contains("code 250"), "{shown}");
}
