//! Restarting: with the settings as they are now, and only when they are right.

use std::fs;

use crate::harness::procs;
use crate::lifecycle::bench::{Machine, SOON, pid_in, says};

#[test]
fn a_new_daemon_takes_over_and_the_old_ones_jobs_end() {
    let machine = Machine::new();
    let old = machine.started();
    let marker = procs::marker();
    let mut job = machine.job(&marker);
    let finished = machine.command(["daemon", "restart"]).run().expect_success();
    assert!(finished.out().starts_with("restarted peer=w1 pid="), "{finished:?}");
    let new = pid_in(&finished);
    assert!(new != old && procs::look_at(old).is_none());
    assert!(job.wait(SOON).expect_code(130).err().contains("daemon stopping"));
    procs::wait_until_gone(&marker, SOON);
    machine.command(["exec", "w1", "-C", "/", "--", "true"]).run().expect_success();
    assert_eq!(machine.status(0)["pid"], new);
}

#[test]
fn where_none_runs_it_starts_one() {
    let machine = Machine::new();
    let pid = pid_in(&machine.command(["daemon", "restart"]).run().expect_success());
    assert_eq!(machine.status(0)["pid"], pid);
}

#[test]
fn a_mistake_leaves_the_old_one_alone() {
    let machine = Machine::new();
    let pid = machine.started();
    let file = machine.fleet.file("bad.toml", "nast = 'x'\n");
    let finished = machine.command(["daemon", "restart"]).env("PEERBUS_CONFIG", &file).run().expect_code(2);
    says(&finished, &["nast", "line 1"]);
    assert_eq!(machine.status(0)["pid"], pid);
}

#[test]
fn a_new_one_that_does_not_come_up_is_said_with_its_words() {
    let machine = Machine::new();
    let old = machine.started();
    let nowhere = "nats://127.0.0.1:1";
    let arguments = ["daemon", "restart", "--nats", nowhere, "--ready-timeout", "5s"];
    let finished = machine.command(arguments).run().expect_code(1);
    says(&finished, &["the old daemon was stopped", &format!("pid={old}"), "no new one runs", nowhere]);
    machine.nothing_is_left();
}

#[test]
fn where_it_is_not_needed_nothing_happens() {
    let machine = Machine::new();
    let needed = |id: &str| {
        let arguments = ["daemon", "restart", "--if-needed", "--id", id];
        machine.command(arguments).run().expect_success()
    };
    let first = pid_in(&needed("w1"));
    assert_eq!(pid_in(&needed("w1")), first);
    let other = needed("w2");
    says(&other, &["the daemon that runs has peer id w1, not w2"]);
    assert!(pid_in(&other) != first);
    let status = machine.status(0);
    assert_eq!((&status["peer_id"], &status["pid"]), (&"w2".into(), &pid_in(&other).into()));
}

#[test]
fn a_program_that_was_replaced_meanwhile_goes_on_and_is_replaced_by_the_new_one() {
    let machine = Machine::new();
    let program = machine.fleet.path().join("d");
    fs::copy(env!("CARGO_BIN_EXE_d"), &program).unwrap();
    let run = |verb: &str| {
        let command = machine.command([""]).instead(program.to_str().unwrap());
        pid_in(&command.with(|d| _ = d.args(["daemon", verb])).run().expect_success())
    };
    let old = run("start");
    fs::remove_file(&program).unwrap();
    machine.command(["exec", "w1", "-C", "/", "--", "true"]).run().expect_success();
    fs::copy(env!("CARGO_BIN_EXE_d"), &program).unwrap();
    let new = run("restart");
    assert_ne!(old, new);
    assert_eq!(fs::read_link(format!("/proc/{new}/exe")).unwrap(), program);
}
