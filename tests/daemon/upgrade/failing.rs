//! A version that says it would start, and then does not: the old one is back by itself.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::procs;
use crate::harness::wait::eventually;
use crate::upgrade::bench::{Machine, SOON, named, says};

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

/// What starts a daemon again by itself, as systemd does, gets the old one, and no other is started beside it.
#[test]
fn where_systemd_starts_it_again_that_is_left_to_systemd() {
    let machine = Machine::new();
    let line = "while :; do sh -c 'SYSTEMD_EXEC_PID=$$ exec \"$0\" daemon run' \"$0\"; sleep 0.5; done";
    let program = machine.program.to_str().unwrap().to_owned();
    let mut systemd = machine.d([""]).instead("sh");
    systemd = systemd.env("PEERBUS_STATE_DIR", machine.state()).env("PEERBUS_PEER_ID", "w1");
    let mut systemd = systemd.with(|sh| _ = sh.args(["-c", line, &program])).spawn();
    systemd.stderr_line(SOON, |line| line.starts_with("ready "));
    assert_eq!(machine.status()["run_by"], "systemd");
    machine.upgrade(&machine.version_that_crashes("0.1.1"), &[]).run().expect_code(1);
    let status = machine.serves("0.1.0");
    assert_eq!(status["run_by"], "systemd");
    assert_eq!(systemd.stderr.text().lines().filter(|line| line.starts_with("ready ")).count(), 2);
    machine.program_is(&machine.original());
    machine.upgrade(&machine.version("0.1.2"), &[]).run().expect_success();
    assert_eq!(machine.serves("0.1.2")["run_by"], "systemd");
    systemd.kill();
}

/// Systemd before version 248 does not say which process it has started; it is that one's parent.
#[test]
fn an_older_systemd_is_known_as_the_parent() {
    let machine = Machine::new();
    let shell = machine.fleet.directory("manager").join("systemd");
    fs::copy(fs::canonicalize("/bin/sh").unwrap(), &shell).unwrap();
    let systemd = machine.d([""]).instead(shell.to_str().unwrap());
    let systemd = systemd.env("PEERBUS_STATE_DIR", machine.state()).env("PEERBUS_PEER_ID", "w1");
    let systemd = systemd.env("INVOCATION_ID", "0123456789abcdef0123456789abcdef").with(|sh| {
        _ = sh.args(["-c", "\"$0\" daemon run; exit $?", machine.program.to_str().unwrap()]);
    });
    let mut systemd = systemd.spawn();
    systemd.stderr_line(SOON, |line| line.starts_with("ready "));
    assert_eq!(machine.status()["run_by"], "systemd");
    machine.d(["daemon", "stop"]).run().expect_success();
    systemd.wait(SOON).expect_success();
    // A shell of a service has the same variable, and is another parent.
    let line = "INVOCATION_ID=0123456789abcdef0123456789abcdef exec \"$0\" daemon run";
    let mut shell = machine.d([""]).instead("sh");
    shell = shell.env("PEERBUS_STATE_DIR", machine.state()).env("PEERBUS_PEER_ID", "w1");
    let mut live = shell.with(|sh| _ = sh.args(["-c", line, machine.program.to_str().unwrap()])).spawn();
    live.stderr_line(SOON, |line| line.starts_with("ready "));
    assert_eq!(machine.status()["run_by"], "foreground");
    live.signal(Signal::SIGTERM);
    live.wait(SOON).expect_success();
}

/// A leader brings its broker along; that is another one afterwards.
#[test]
fn a_leader_with_a_broker_of_its_own_goes_on_or_back() {
    let machine = Machine::new();
    let lead = |words: &[&str]| {
        let d = machine.d(words).env("PEERBUS_NATS_SERVER", std::env::var("PEERBUS_NATS_SERVER").unwrap());
        d.env_remove("NATS_URL").deadline(SOON * 2).run()
    };
    lead(&["daemon", "start", "--role", "leader", "--broker", "managed", "--broker-listen", "127.0.0.1:0"])
        .expect_success();
    let from = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    lead(&["daemon", "upgrade", "--from", &from(machine.version("0.1.1"))]).expect_success();
    assert_eq!(machine.file("state.json").unwrap()["version"], named("0.1.1").as_str());
    lead(&["daemon", "upgrade", "--from", &from(machine.version_that_crashes("0.1.2"))]).expect_code(1);
    let state = machine.file("state.json").unwrap();
    assert_eq!((&state["version"], &state["state"]), (&named("0.1.1").as_str().into(), &"ready".into()));
}
