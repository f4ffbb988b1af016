//! A version that says it would start, and then does not: the old one is back by itself.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::{Machine, SOON, named, says};
use crate::harness::procs;
use crate::harness::wait::eventually;

#[test]
fn one_that_crashes_is_taken_back() {
    let machine = Machine::new();
    let pid = machine.started();
    let failed = machine.upgrade(&machine.version_that_crashes("0.1.1"), &[]).run().expect_code(1);
    says(&failed, &[&format!("not upgraded to {}", named("0.1.1")), "process trees", "0.1.0"]);
    let status = machine.serves("0.1.0");
    assert_ne!(status["pid"], pid, "its process is the dead one's");
    machine.program_is(&machine.original());
    assert!(!machine.beside().contains(&"d.previous".to_owned()), "nothing had changed");
    assert_eq!(machine.phase("failed")["version"], named("0.1.1").as_str());
    // Its log and its flags are those of before, and another version is another matter.
    machine.logs("goes on");
    machine.upgrade(&machine.version("0.1.2"), &[]).run().expect_success();
    machine.serves("0.1.2");
}

#[test]
fn one_that_hangs_is_stopped_and_taken_back() {
    let machine = Machine::new();
    machine.fleet.file("person/config.toml", "nats = 'nats://127.0.0.1:1'\n");
    let pid = machine.started();
    let new = machine.version_that_hangs("0.1.1");
    let failed = machine.upgrade(&new, &["--ready-timeout", "3s"]).run().expect_code(1);
    says(&failed, &["not upgraded", "not ready within 3s", "nats://127.0.0.1:1"]);
    assert!(procs::look_at(pid).is_none(), "the one that hung is gone");
    machine.serves("0.1.0");
    machine.program_is(&machine.original());
}

#[test]
fn in_the_foreground_it_goes_on_by_itself() {
    let machine = Machine::new();
    let mut live = machine.in_the_foreground();
    machine.upgrade(&machine.version_that_crashes("0.1.1"), &[]).run().expect_code(1);
    live.wait(SOON).expect_code(1);
    let status = machine.serves("0.1.0");
    assert_eq!(status["run_by"], "detached");
    machine.program_is(&machine.original());
}

/// Ready is not yet proved: what ends soon afterwards is taken back just the same.
#[test]
fn one_that_dies_soon_after_it_was_ready_is_taken_back() {
    let machine = Machine::new();
    let pid = machine.started();
    let mut upgrade = machine.upgrade(&machine.version("0.1.1"), &[]).spawn();
    upgrade.stderr_line(SOON, |line| line.contains("has to prove itself"));
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    says(&upgrade.wait(SOON).expect_code(1), &["not upgraded", "0.1.0"]);
    machine.serves("0.1.0");
    machine.program_is(&machine.original());
}

/// Somebody's wish to have no daemon is no failure of the new one.
#[test]
fn one_that_is_stopped_on_trial_stays_stopped() {
    let machine = Machine::new();
    machine.started();
    let mut upgrade = machine.upgrade(&machine.version("0.1.1"), &[]).spawn();
    upgrade.stderr_line(SOON, |line| line.contains("has to prove itself"));
    machine.d(["daemon", "stop"]).run().expect_success();
    machine.phase("failed");
    eventually(SOON, "the guard to be gone", || machine.guards().is_empty().then_some(()));
    assert_eq!(machine.status()["running"], false);
    upgrade.kill();
    machine.program_is(&machine.original());
    machine.started();
    machine.serves("0.1.0");
}
