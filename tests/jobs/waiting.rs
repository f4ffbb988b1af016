//! Waiting for an end, whatever becomes of the daemon meanwhile.

use std::time::{Duration, Instant};

use crate::bench::{SOON, held_back, rows, run, short, start, three};

#[test]
fn the_code_is_the_jobs() {
    let fleet = three();
    let go = fleet.path().join("go");
    let line = format!("until [ -e {} ]; do sleep 0.05; done; exit 42", go.display());
    let job = start(&fleet, "w3", &line);
    let mut waiting = fleet.spawn_d(["wait", short(&job), "--json"]);
    let timed_out = fleet.d(["wait", short(&job), "--timeout", "3s"]).expect_code(252);
    assert!(timed_out.err().contains("has not ended within 3s; it goes on"), "{timed_out:?}");
    std::fs::write(&go, "").unwrap();
    let waited = waiting.wait(SOON).expect_code(42);
    let row = &rows(&waited.out())[0];
    assert_eq!((row["id"].as_str(), row["state"].as_str()), (Some(job.as_str()), Some("ended")), "{row}");
    fleet.d(["wait", &job]).expect_code(42);
    for (line, code, said) in [("kill -9 $$", 137, ""), ("true", 0, ""), ("exec /no/such", 127, "")] {
        let job = run(&fleet, "w1", line);
        let waited = fleet.d(["wait", &job]).expect_code(code);
        assert!(waited.out().is_empty() && waited.err() == said, "{waited:?}");
    }
}

/// Whoever waits is told, and does not have to ask again, as it does every five seconds.
#[test]
fn the_end_is_told_at_once() {
    let fleet = three();
    let takes = |number: u32| {
        let go = fleet.path().join(format!("go{number}"));
        let job = start(&fleet, "w1", &format!("until [ -e {} ]; do sleep 0.05; done", go.display()));
        let mut waiting = held_back(&fleet, &format!("w1/{}", short(&job)));
        std::fs::write(&go, "").unwrap();
        let ended = Instant::now();
        waiting.wait(SOON).expect_success();
        ended.elapsed()
    };
    // On a busy machine one may be slow.
    let taken: Vec<Duration> = (0..3).map(takes).collect();
    assert!(taken.iter().any(|took| *took < Duration::from_secs(2)), "{taken:?}");
}

#[test]
fn a_daemon_that_is_killed_and_comes_back_is_waited_for() {
    let fleet = three();
    let job = start(&fleet, "w1", "exec sleep 1000");
    let mut waiting = held_back(&fleet, &format!("w1/{}", short(&job)));
    let daemon = fleet.daemon("w1");
    daemon.kill9();
    assert!(waiting.ended().is_none());
    daemon.start();
    daemon.wait_until_ready();
    let waited = waiting.wait(SOON * 2).expect_code(251);
    assert!(waited.err().contains("d: unknown: its daemon died"), "{waited:?}");
}

#[test]
fn what_a_daemon_ended_when_it_was_restarted_is_told_by_the_next_one() {
    let fleet = three();
    let job = start(&fleet, "w2", "exec sleep 1000");
    let mut waiting = held_back(&fleet, short(&job));
    fleet.daemon("w2").restart();
    let waited = waiting.wait(SOON * 2).expect_code(130);
    assert!(waited.err().contains("cancelled: daemon stopping"), "{waited:?}");
}
