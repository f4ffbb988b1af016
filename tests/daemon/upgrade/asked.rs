//! An upgrade that was asked for and goes well.

use std::fs;

use crate::harness::procs;
use crate::harness::wait::eventually;
use crate::upgrade::bench::{Machine, SOON, named, says};

#[test]
fn the_new_version_takes_over_in_the_same_process() {
    let machine = Machine::new();
    let (old, new) = (machine.original(), machine.version("0.1.1"));
    let pid = machine.started();
    let (before, born) = (machine.file("state.json").unwrap(), procs::look_at(pid).unwrap());
    let finished = machine.upgrade(&new, &[]).run().expect_success();
    assert!(finished.out().starts_with(&format!("upgraded peer=w1 pid={pid} ")), "{finished:?}");
    assert!(finished.out().contains(&format!("version={} before={}", named("0.1.1"), peerbus::VERSION)));
    machine.serves("0.1.1");
    let (after, now) = (machine.file("state.json").unwrap(), procs::look_at(pid).unwrap());
    assert_eq!((now.started, &now.arguments), (born.started, &born.arguments));
    assert_eq!(before["process"], after["process"]);
    assert_ne!(before["instance"], after["instance"]);
    machine.program_is(&new);
    let previous = machine.program.with_file_name("d.previous");
    assert!(fs::read(previous).unwrap() == fs::read(&old).unwrap(), "the old one is kept");
    assert_eq!(fs::read_link(format!("/proc/{pid}/exe")).unwrap(), machine.program);
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "d\n", "what `ps` calls it");
    // And back again, in the same way.
    machine.upgrade(&old, &[]).run().expect_success();
    assert_eq!(machine.serves("0.1.0")["pid"], pid);
    let stopped = machine.d(["daemon", "stop"]).run().expect_success();
    assert!(stopped.out().contains(&format!("pid={pid} ")), "{stopped:?}");
}

#[test]
fn what_it_leaves_to_the_next_one_is_its_lock_and_nothing_else() {
    let machine = Machine::new();
    let pid = machine.started();
    let limits = |pid: i32| fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let open = |pid: i32| {
        let mut open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .flatten()
            .map(|fd| fs::read_link(fd.path()).unwrap_or_default().display().to_string())
            .map(|name| name.split(':').next().unwrap().to_owned())
            .collect();
        open.sort();
        open
    };
    let soft = machine.d(["exec", "w1", "-C", "/", "--sh", "ulimit -n"]).run().expect_success().out();
    // That of the job is closed when its caller has said that it heard everything.
    let still = || {
        let one = open(pid);
        std::thread::sleep(std::time::Duration::from_millis(300));
        (open(pid) == one).then_some(one)
    };
    let before = (eventually(SOON, "descriptors that stay", still), limits(pid));
    machine.upgrade(&machine.version("0.1.1"), &[]).run().expect_success();
    machine.serves("0.1.1");
    eventually(SOON, "as many descriptors as before", || (open(pid) == before.0).then_some(()));
    assert_eq!(limits(pid), before.1);
    let now = machine.d(["exec", "w1", "-C", "/", "--sh", "ulimit -n"]).run().expect_success().out();
    assert_eq!(now, soft, "a job gets what it got before");
    eventually(SOON, "the guard to be gone without a trace", || machine.guards().is_empty().then_some(()));
    let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    eventually(SOON, "no zombie either", || children().trim().is_empty().then_some(()));
}

#[test]
fn one_in_the_foreground_stays_there() {
    let machine = Machine::new();
    let mut live = machine.in_the_foreground();
    machine.upgrade(&machine.version("0.1.1"), &[]).run().expect_success();
    assert_eq!(machine.serves("0.1.1")["pid"], live.pid());
    assert!(live.ended().is_none());
    assert_eq!(live.stderr.text().lines().filter(|line| line.starts_with("ready ")).count(), 2);
    live.signal(nix::sys::signal::Signal::SIGTERM);
    live.wait(SOON).expect_success();
    assert!(!machine.state().join("daemon.log").exists());
}

#[test]
fn a_job_may_end_first() {
    let machine = Machine::new();
    machine.started();
    let end = machine.fleet.path().join("end");
    let mut job = machine.job_until(&end);
    let mut upgrade = machine.upgrade(&machine.version("0.1.1"), &[]).spawn();
    upgrade.stderr_line(SOON, |line| line.contains("waits until 1 job has ended"));
    assert_eq!(machine.status()["version"], peerbus::VERSION);
    fs::write(end, "").unwrap();
    assert_eq!(job.wait(SOON).expect_success().out(), "begun\nended\n");
    upgrade.wait(SOON).expect_success();
    machine.serves("0.1.1");
}

#[test]
fn a_job_that_takes_too_long_is_stopped_as_at_any_stop() {
    let machine = Machine::new();
    machine.started();
    let mut job = machine.job_until(&machine.fleet.path().join("never"));
    machine.upgrade(&machine.version("0.1.1"), &["--jobs-timeout", "1s"]).run().expect_success();
    assert!(job.wait(SOON).expect_code(130).err().contains("daemon stopping"));
    machine.serves("0.1.1");
}

#[test]
fn it_comes_by_standard_input_and_by_way_of_the_bus() {
    let machine = Machine::new();
    machine.started();
    let new = machine.version("0.1.1");
    let (bytes, program) = (fs::read(&new).unwrap(), machine.program.display().to_string());
    let (state, digest) = (machine.state().display().to_string(), blake3::hash(&bytes).to_hex().to_string());
    let words = ["daemon", "upgrade", "--state-dir", &state, "--from", "-", "--digest", &digest];
    let there = ["exec", "w1", "-C", "/", "-i", "--", &program];
    let asked = machine.d([&there[..], &words].concat()).input(bytes).run().expect_success();
    assert!(asked.out().starts_with("asked peer=w1 "), "{asked:?}");
    machine.phase("done");
    machine.serves("0.1.1");
    machine.program_is(&new);
}

#[test]
fn where_no_daemon_runs_it_is_put_in_place() {
    let machine = Machine::new();
    let new = machine.version("0.1.1");
    let finished = machine.upgrade(&new, &[]).run().expect_success();
    assert!(finished.out().contains("no daemon runs"), "{finished:?}");
    machine.program_is(&new);
    machine.started();
    machine.serves("0.1.1");
    let again = machine.upgrade(&new, &[]).run().expect_success();
    assert!(again.out().starts_with("running already peer=w1 "), "{again:?}");
}

#[test]
fn of_two_at_once_one_is_refused() {
    let machine = Machine::new();
    machine.started();
    let end = machine.fleet.path().join("end");
    let mut job = machine.job_until(&end);
    let mut first = machine.upgrade(&machine.version("0.1.1"), &[]).spawn();
    first.stderr_line(SOON, |line| line.contains("waits until"));
    let second = machine.upgrade(&machine.version("0.1.2"), &[]).run().expect_code(75);
    says(&second, &["is under way", "nothing was changed"]);
    first.kill();
    // Nobody waits for the first one any more; it goes on, and keeps its turn.
    let third = machine.upgrade(&machine.version("0.1.2"), &[]).run().expect_code(75);
    says(&third, &[&named("0.1.1"), "is under way"]);
    fs::write(end, "").unwrap();
    job.wait(SOON).expect_success();
    machine.phase("done");
    machine.serves("0.1.1");
    machine.upgrade(&machine.version("0.1.2"), &[]).run().expect_success();
    machine.serves("0.1.2");
}
