//! `d task run deploy`: another version by way of the bus, seen to its end by who asked for it.

use std::fs;

use crate::bench::{Machine, SOON, named, says};
use crate::harness::fleet::DCommand;

fn deploy(machine: &Machine, words: &[&str]) -> DCommand {
    machine.d([&["task", "run", "deploy"], words].concat())
}

#[test]
fn a_program_is_sent_and_served_by() {
    let machine = Machine::new();
    let pid = machine.started();
    let new = machine.version("0.1.1");
    let sent = deploy(&machine, &["--binary", new.to_str().unwrap(), "w1"]).run().expect_success();
    assert!(sent.out().starts_with(&format!("deployed peer=w1 version={} ", named("0.1.1"))), "{sent:?}");
    says(&sent, &["w1: deploy 1/2: sends", "bytes"]);
    says(&sent, &["w1: deploy 2/2:", &named("0.1.1")]);
    assert_eq!(machine.serves("0.1.1")["pid"], pid);
    machine.program_is(&new);
    let again = deploy(&machine, &["--binary", new.to_str().unwrap(), "w1"]).run().expect_success();
    assert!(again.out().starts_with("running already peer=w1"), "{again:?}");
}

#[test]
fn what_fails_there_is_told_here() {
    let machine = Machine::new();
    machine.started();
    let bad = machine.version_that_crashes("0.1.1");
    let failed = deploy(&machine, &["--binary", bad.to_str().unwrap(), "w1"]).run().expect_code(1);
    says(&failed, &["w1: deploy 2/2: stopped:", "process trees", peerbus::VERSION, "serves"]);
    machine.serves("0.1.0");
    machine.program_is(&machine.original());
    let garbage = machine.fleet.file("garbage", [7; 4096]);
    let failed = deploy(&machine, &["--binary", garbage.to_str().unwrap(), "w1"]).run().expect_code(1);
    says(&failed, &["no program of this system", "nothing was changed"]);
    says(&failed, &["w1: deploy 2/2: stopped: it exited 1"]);
    machine.program_is(&machine.original());
}

#[test]
fn jobs_that_run_there_may_end_first() {
    let machine = Machine::new();
    machine.started();
    let end = machine.fleet.path().join("end");
    let mut job = machine.job_until(&end);
    let new = machine.version("0.1.1");
    let mut sent = deploy(&machine, &["--binary", new.to_str().unwrap(), "w1"]).spawn();
    sent.stderr_line(SOON, |line| line.contains("asked for"));
    machine.d(["exec", "w1", "-C", "/", "--", "true"]).run().expect_success();
    fs::write(end, "").unwrap();
    assert_eq!(job.wait(SOON).expect_success().out(), "begun\nended\n");
    sent.wait(SOON).expect_success();
    machine.serves("0.1.1");
}

#[test]
fn what_was_built_there_is_taken_over() {
    let machine = Machine::new();
    machine.started();
    let (new, place) = (machine.version("0.1.1"), machine.fleet.directory("project"));
    let configuration = format!(
        "[tasks.build]\ndirectory = \"{}\"\nsteps = [\"mkdir -p out && cp '{}' out/d\"]\nprogram = \"out/d\"\n\
         [tasks.pull]\ndirectory = \"/\"\nsteps = [\"echo pulled\"]\n",
        place.display(),
        new.display()
    );
    let file = machine.fleet.file("tasks.toml", configuration);
    let deployed = deploy(&machine, &["w1"]).env("PEERBUS_CONFIG", &file).run().expect_success();
    assert!(deployed.out().starts_with("pulled\ndeployed peer=w1 "), "{deployed:?}");
    for step in ["w1: deploy 1/3 in /", "w1: deploy 2/3 in", "w1: deploy 3/3: "] {
        assert!(deployed.err().contains(step), "{step}: {deployed:?}");
    }
    machine.serves("0.1.1");
    // Nothing of it where a step fails.
    let broken = "[tasks.deploy]\ndirectory = \"/\"\nsteps = [\"exit 9\"]\nprogram = \"/nowhere\"\n";
    let file = machine.fleet.file("broken.toml", broken);
    let failed = deploy(&machine, &["w1"]).env("PEERBUS_CONFIG", &file).run().expect_code(9);
    says(&failed, &["stopped at step 1 of 2: it exited 9"]);
    machine.serves("0.1.1");
}

#[test]
fn mistakes_are_said_before_anything_is_sent() {
    let machine = Machine::new();
    let new = machine.version("0.1.1").display().to_string();
    let wrong = machine.d(["task", "run", "pull", "--binary", &new, "w1"]).run().expect_code(2);
    says(&wrong, &["--binary", "`deploy`"]);
    says(&deploy(&machine, &["--binary", "/nowhere", "w1"]).run().expect_code(2), &["/nowhere"]);
    deploy(&machine, &["--binary", &new, "w1"]).run().expect_code(253);
}
