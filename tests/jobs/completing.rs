//! Jobs at a TAB, as a shell asks for them.

use crate::bench::{SOON, short, start, three};
use crate::harness::fleet::Fleet;
use crate::harness::wait::eventually;

/// What is offered for the last of these words, besides flags.
fn offered(fleet: &Fleet, words: &[&str]) -> Vec<String> {
    let line = ["--", "d"].iter().chain(words);
    let answer = fleet.command(line).env("PEERBUS_COMPLETE", "bash").run().expect_success();
    assert!(answer.err().is_empty(), "{answer:?}");
    answer
        .out()
        .lines()
        .map(str::to_owned)
        .filter(|line| !line.is_empty() && !line.starts_with('-'))
        .collect()
}

#[test]
fn what_runs_is_offered_where_a_job_is_named() {
    let fleet = three();
    let (one, other) = (start(&fleet, "w1", "exec sleep 1000"), start(&fleet, "w2", "exec sleep 1000; true"));
    let wanted = [
        format!("{}\tw2 running exec sleep 1000; true", short(&other)),
        format!("{}\tw1 running exec sleep 1000", short(&one)),
    ];
    // A busy machine may not answer within a TAB; the next one has it.
    eventually(SOON, "the jobs", || (offered(&fleet, &["stop", ""]) == wanted).then_some(()));
    for verb in ["wait", "attach"] {
        eventually(SOON, "the jobs", || (offered(&fleet, &[verb, ""]) == wanted).then_some(()));
    }
    let of_w2 = format!("w2/{}\tw2 running exec sleep 1000; true", short(&other));
    eventually(SOON, "the job", || (offered(&fleet, &["stop", "w2/"]) == [of_w2.clone()]).then_some(()));
    assert_eq!(offered(&fleet, &["logs", ""]), [""; 0], "nothing is kept of them");
    // With the bus gone, what was learned last is offered for a while.
    fleet.server().kill();
    assert_eq!(offered(&fleet, &["stop", ""]), wanted);
}

#[test]
fn without_a_bus_nothing_is_offered_and_nothing_said() {
    let fleet = Fleet::builder().start();
    fleet.server().kill();
    assert_eq!(offered(&fleet, &["stop", ""]), [""; 0]);
}
