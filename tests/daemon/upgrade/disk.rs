//! A disk that is full in the middle of an upgrade: what is installed works, and nothing is under way for ever.

use std::fs;

use crate::harness::disk::SmallDisk;
use crate::harness::wait::eventually;
use crate::upgrade::bench::{Machine, SOON, named, says};

/// The state directory of the machine, small and of its own.
fn small(machine: &Machine) -> SmallDisk {
    SmallDisk::at(&machine.fleet.directory("state-w1"))
}

/// What has its place and only cannot write that down, has proved itself.
#[test]
fn full_when_the_new_one_takes_its_place() {
    let machine = Machine::new();
    let disk = small(&machine);
    let mut live = machine.in_the_foreground();
    let new = machine.version("0.1.1");
    let mut upgrade = machine.upgrade(&new, &["--ready-timeout", "10s"]).spawn();
    upgrade.stderr_line(SOON, |line| line.contains("has to prove itself"));
    disk.fill();
    let failed = || live.stderr.text().matches("putting the new program in its place").count();
    eventually(SOON, "the disk to be in the way twice", || (failed() >= 2).then_some(()));
    machine.program_is(&new);
    let previous = fs::read(machine.program.with_file_name("d.previous")).unwrap();
    assert!(previous == fs::read(machine.original()).unwrap(), "the one before is kept");
    eventually(SOON, "its guard to leave it alone", || machine.guards().is_empty().then_some(()));
    assert!(live.ended().is_none(), "{}", live.stderr.text());
    assert_eq!(machine.file("upgrade.json").unwrap()["phase"], "trying");
    disk.free();
    upgrade.wait(SOON).expect_success();
    assert_eq!(machine.serves("0.1.1")["pid"], live.pid());
    live.signal(nix::sys::signal::Signal::SIGTERM);
    live.wait(SOON).expect_success();
}

/// The old one goes on, and says so once it can.
#[test]
fn full_when_it_is_to_be_tried() {
    let machine = Machine::new();
    let disk = small(&machine);
    let mut live = machine.in_the_foreground();
    let end = machine.fleet.path().join("end");
    let mut job = machine.job_until(&end);
    let mut upgrade = machine.upgrade(&machine.version("0.1.1"), &["--jobs-timeout", "10s"]).spawn();
    upgrade.stderr_line(SOON, |line| line.contains("waits until 1 job has ended"));
    disk.fill();
    live.stderr_line(SOON, |line| line.contains("writing down that a program was refused"));
    disk.free();
    says(&upgrade.wait(SOON).expect_code(1), &["not upgraded to", &named("0.1.1"), "the disk was full"]);
    fs::write(end, "").unwrap();
    assert_eq!(job.wait(SOON).expect_success().out(), "begun\nended\n", "it was not stopped for nothing");
    assert_eq!(machine.serves("0.1.0")["pid"], live.pid());
    machine.upgrade(&machine.version("0.1.2"), &[]).run().expect_success();
    machine.serves("0.1.2");
    live.signal(nix::sys::signal::Signal::SIGTERM);
    live.wait(SOON).expect_success();
}

/// Somebody has replaced the program, and there is no room to keep the one that runs: it is not given up for one
/// that may fail.
#[test]
fn full_when_there_would_be_no_way_back() {
    let machine = Machine::new();
    let folder = machine.program.parent().unwrap();
    let length = fs::metadata(&machine.program).unwrap().len();
    let _disk = SmallDisk::at(folder);
    let mount = |options: String| {
        let done = std::process::Command::new("mount").arg("-o").arg(options).arg(folder).status();
        assert!(done.unwrap().success());
    };
    mount(format!("remount,size={}", 5 * length / 2));
    fs::copy(machine.original(), &machine.program).unwrap();
    let pid = machine.started();
    machine.replace_program(&machine.version_that_crashes("0.1.1"));
    machine.logs("so there would be no way back");
    assert_eq!(machine.serves("0.1.0")["pid"], pid);
    assert!(!machine.beside().iter().any(|name| name.ends_with(".aside")), "{:?}", machine.beside());
    // There is room for that, and no more: none is needed on the way back.
    mount(format!("remount,size={}", 3 * length + 100_000));
    machine.phase("failed");
    machine.program_is(&machine.original());
    machine.serves("0.1.0");
    mount(format!("remount,size={}", 6 * length));
    machine.replace_program(&machine.version("0.1.2"));
    machine.serves("0.1.2");
    assert!(fs::read(folder.join("d.previous")).unwrap() == fs::read(machine.original()).unwrap());
}
