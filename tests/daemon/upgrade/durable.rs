//! Durable jobs know nothing of an upgrade: the same processes, all of their output, their own code.

use std::fs;

use crate::harness::procs;
use crate::upgrade::bench::{Machine, SOON, named};

/// Counts until it is told to end, and says which process it is.
fn line(end: &std::path::Path) -> String {
    format!(
        "echo pid $$; i=0; while ! [ -e '{}' ]; do i=$((i+1)); echo $i; sleep 0.02; done; echo last $i; exit 7",
        end.display()
    )
}

/// Fails the test unless nothing is missing, doubled or out of order.
fn is_whole(out: &str) {
    let mut lines = out.lines().skip(1);
    let count = lines.by_ref().zip(1..).take_while(|(line, number)| **line == number.to_string()).count();
    assert_eq!(out.lines().last(), Some(&*format!("last {count}")), "{out}");
    assert!(count > 50, "it ran on meanwhile: {count}");
}

#[test]
fn a_job_goes_on_through_two_versions_and_a_failure() {
    let machine = Machine::new();
    let pid = machine.started();
    let end = machine.fleet.path().join("end");
    let mut job = machine.d(["exec", "w1", "--durable", "-C", "/", "--sh", &line(&end)]).spawn();
    let said = job.stdout_line(SOON, |line| line.starts_with("pid "));
    let own: i32 = said.trim_start_matches("pid ").parse().unwrap();
    let born = procs::look_at(own).unwrap();
    // It is not waited for.
    machine.upgrade(&machine.version("0.1.1"), &["--jobs-timeout", "0s"]).run().expect_success();
    assert_eq!(machine.serves("0.1.1")["pid"], pid);
    machine.upgrade(&machine.version_that_crashes("0.1.2"), &[]).run().expect_code(1);
    machine.serves("0.1.1");
    machine.replace_program(&machine.version("0.1.3"));
    machine.serves("0.1.3");
    machine.phase("done");
    let now = procs::look_at(own).unwrap();
    assert_eq!((now.started, now.session), (born.started, born.session), "the very process");
    fs::write(end, "").unwrap();
    is_whole(&job.wait(SOON).expect_code(7).out());
}

/// A task that has the daemon become another version in the middle of it goes on behind that.
#[test]
fn a_task_goes_on_through_the_upgrade_that_it_asks_for() {
    let machine = Machine::new();
    machine.started();
    let (new, program) = (machine.version("0.1.1"), machine.program.display().to_string());
    let state = machine.state().display().to_string();
    let upgrade = format!("'{program}' --state-dir '{state}' daemon upgrade --from '{}'", new.display());
    let wait = format!(
        "until grep -q '\"phase\":\"done\"' '{state}/upgrade.json'; do sleep 0.1; done; echo behind it"
    );
    let configuration =
        format!("[tasks.renew]\ndirectory = \"/\"\nsteps = [\"\"\"{upgrade}\n{wait}\"\"\", \"echo next\"]\n");
    let file = machine.fleet.file("tasks.toml", configuration);
    let run = machine.d(["task", "run", "renew", "w1"]).env("PEERBUS_CONFIG", file).run().expect_success();
    assert!(run.out().ends_with("behind it\nnext\n"), "{run:?}");
    assert_eq!(machine.serves("0.1.1")["version"], named("0.1.1").as_str());
}
