//! Whoever takes part in an upgrade may be killed at any point: what is installed works, and leads on.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::procs;
use crate::harness::wait::eventually;
use crate::upgrade::bench::{Machine, SOON};

/// Whatever was killed: the old version serves, and another upgrade goes well.
fn nothing_has_happened(machine: &Machine) {
    assert!(fs::read(&machine.program).unwrap() == fs::read(machine.original()).unwrap());
    machine.serves("0.1.0");
    let new = machine.version("0.1.2");
    machine.upgrade(&new, &[]).run().expect_success();
    machine.serves("0.1.2");
    machine.program_is(&new);
}

fn staged(machine: &Machine) -> Option<String> {
    machine.beside().into_iter().find(|name| name.starts_with(".d.next-"))
}

#[test]
fn the_command_while_it_copies() {
    let machine = Machine::new();
    machine.started();
    let bytes = fs::read(machine.version("0.1.1")).unwrap();
    let mut upgrade = machine.upgrade(Path::new("-"), &[]).open_input().spawn();
    upgrade.write(&bytes[..1_000_000]).unwrap();
    eventually(SOON, "a part of it to be there", || staged(&machine));
    upgrade.kill();
    nothing_has_happened(&machine);
}

#[test]
fn the_command_once_the_daemon_was_asked() {
    let machine = Machine::new();
    machine.started();
    let end = machine.fleet.path().join("end");
    let mut job = machine.job_until(&end);
    let new = machine.version("0.1.1");
    let mut upgrade = machine.upgrade(&new, &[]).spawn();
    machine.phase("asked");
    upgrade.kill();
    fs::write(end, "").unwrap();
    job.wait(SOON).expect_success();
    machine.phase("done");
    machine.serves("0.1.1");
    machine.program_is(&new);
}

#[test]
fn the_command_while_the_new_one_is_on_trial() {
    let machine = Machine::new();
    machine.started();
    let new = machine.version("0.1.1");
    let mut upgrade = machine.upgrade(&new, &[]).spawn();
    machine.phase("trying");
    upgrade.kill();
    machine.phase("done");
    machine.serves("0.1.1");
    machine.program_is(&new);
}

#[test]
fn the_command_and_the_new_one() {
    let machine = Machine::new();
    let pid = machine.started();
    let mut upgrade = machine.upgrade(&machine.version("0.1.1"), &[]).spawn();
    upgrade.stderr_line(SOON, |line| line.contains("has to prove itself"));
    upgrade.kill();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    machine.phase("failed");
    machine.serves("0.1.0");
    assert_eq!(staged(&machine), None);
    nothing_has_happened(&machine);
}

#[test]
fn the_command_the_guard_and_the_new_one() {
    let machine = Machine::new();
    let pid = machine.started();
    let mut upgrade = machine.upgrade(&machine.version("0.1.1"), &[]).spawn();
    upgrade.stderr_line(SOON, |line| line.contains("has to prove itself"));
    procs::kill_all(&machine.guards());
    upgrade.kill();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually(SOON, "all of them to be gone", || procs::look_at(pid).is_none().then_some(()));
    assert_eq!(machine.file("upgrade.json").unwrap()["phase"], "trying", "nobody could write that down");
    machine.started();
    assert_eq!(machine.file("upgrade.json").unwrap()["phase"], "failed");
    assert_eq!(staged(&machine), None, "what was not used is gone");
    nothing_has_happened(&machine);
}

#[test]
fn the_guard_alone() {
    let machine = Machine::new();
    machine.started();
    let new = machine.version("0.1.1");
    let mut upgrade = machine.upgrade(&new, &[]).spawn();
    upgrade.stderr_line(SOON, |line| line.contains("has to prove itself"));
    procs::kill_all(&machine.guards());
    upgrade.wait(SOON).expect_success();
    machine.serves("0.1.1");
    machine.program_is(&new);
}

#[test]
fn the_daemon_before_it_goes() {
    let machine = Machine::new();
    let pid = machine.started();
    let mut job = machine.job_until(&machine.fleet.path().join("never"));
    let mut upgrade = machine.upgrade(&machine.version("0.1.1"), &[]).spawn();
    machine.phase("asked");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    upgrade.kill();
    job.kill();
    machine.started();
    assert_eq!(machine.file("upgrade.json").unwrap()["phase"], "failed");
    nothing_has_happened(&machine);
}
