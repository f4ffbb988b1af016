//! A program that somebody else has replaced is noticed, tried, and handed over to when that cuts nothing off.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::harness::wait::{eventually, never};
use crate::upgrade::bench::{Machine, SOON, named};

/// Long enough for a daemon to have looked twice.
const LOOKS: Duration = Duration::from_secs(8);

#[test]
fn an_idle_daemon_becomes_what_lies_in_its_place() {
    let machine = Machine::new();
    let pid = machine.started();
    machine.replace_program(&machine.version("0.1.1"));
    assert_eq!(machine.serves("0.1.1")["pid"], pid);
    machine.phase("done");
    machine.program_is(&machine.version("0.1.1"));
}

#[test]
fn it_waits_for_a_job_however_long_that_takes() {
    let machine = Machine::new();
    machine.started();
    let end = machine.fleet.path().join("end");
    let mut job = machine.job_until(&end);
    machine.replace_program(&machine.version("0.1.1"));
    machine.logs("waits until 1 job has ended");
    let next = machine.status()["next"].clone();
    assert_eq!((&next["version"], &next["is_refused"]), (&named("0.1.1").into(), &false.into()));
    let shown = machine.d(["status"]).run();
    assert!(shown.out().contains("is to take over: waits until 1 job has ended"), "{shown:?}");
    never(LOOKS, "a job is cut off", || {
        (machine.file("state.json")?["version"] != peerbus::VERSION).then_some(())
    });
    // Meanwhile it serves as ever.
    machine.d(["exec", "w1", "-C", "/", "--", "true"]).run().expect_success();
    fs::write(end, "").unwrap();
    assert_eq!(job.wait(SOON).expect_success().out(), "begun\nended\n");
    machine.serves("0.1.1");
}

#[test]
fn the_same_program_anew_is_no_other_one() {
    let machine = Machine::new();
    machine.started();
    let instance = machine.file("state.json").unwrap()["instance"].clone();
    machine.replace_program(&machine.original());
    never(LOOKS, "it is handed over to", || {
        (machine.file("state.json")?["instance"] != instance || machine.file("upgrade.json").is_some())
            .then_some(())
    });
}

#[test]
fn who_wants_to_be_asked_is_not_surprised() {
    let machine = Machine::new();
    machine.fleet.file("person/config.toml", "upgrade = 'asked'\n");
    machine.started();
    machine.replace_program(&machine.version("0.1.1"));
    never(LOOKS, "it is handed over to", || {
        (machine.file("state.json")?["version"] != peerbus::VERSION).then_some(())
    });
    machine.upgrade(&machine.version("0.1.2"), &[]).run().expect_success();
    machine.serves("0.1.2");
}

#[test]
fn what_would_not_start_is_said_until_it_changes() {
    let machine = Machine::new();
    let pid = machine.started();
    let garbage = machine.fleet.file("garbage", "a package that was cut off");
    machine.replace_program(&garbage);
    let next = eventually(SOON, "the program to be refused", || {
        machine
            .file("state.json")
            .map(|state| state["program"]["next"].clone())
            .filter(|next| !next.is_null())
    });
    assert_eq!(next["is_refused"], true);
    machine.logs("not handed over to");
    // What is installed is no program, so it is asked for with another one.
    let ask = |words: &[&str]| {
        let d = machine.d([""]).instead(machine.original().to_str().unwrap());
        d.env("PEERBUS_STATE_DIR", machine.state()).with(|d| _ = d.args(words)).run()
    };
    let doctor = ask(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&doctor.out()).unwrap();
    let check =
        report["checks"].as_array().unwrap().iter().find(|check| check["check"] == "program").unwrap();
    assert_eq!(check["result"], "fail", "{check}");
    assert!(check["detail"].as_str().unwrap().contains("is not taken over"), "{check}");
    machine.replace_program(&machine.version("0.1.1"));
    assert_eq!(machine.serves("0.1.1")["pid"], pid);
}

/// To be told that it cannot be executed, and to see to that, is a change, too.
#[test]
fn what_is_given_the_right_to_be_executed_is_taken_over() {
    let machine = Machine::new();
    let pid = machine.started();
    let beside = machine.program.with_extension("new");
    fs::copy(machine.version("0.1.1"), &beside).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(beside, &machine.program).unwrap();
    machine.logs("not handed over to");
    fs::set_permissions(&machine.program, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(machine.serves("0.1.1")["pid"], pid);
}

#[test]
fn what_fails_all_the_same_loses_its_place() {
    let machine = Machine::new();
    machine.started();
    let bad = machine.version_that_crashes("0.1.1");
    machine.replace_program(&bad);
    machine.phase("failed");
    machine.serves("0.1.0");
    machine.program_is(&machine.original());
    assert!(fs::read(machine.program.with_file_name("d.failed")).unwrap() == fs::read(bad).unwrap());
    // It is not tried again, and what comes next is.
    machine.replace_program(&machine.version("0.1.2"));
    machine.serves("0.1.2");
}

/// A package manager that has put it there restarts the daemon, too.
#[test]
fn who_has_replaced_it_may_restart_it_at_any_moment() {
    let machine = Machine::new();
    let new = machine.version("0.1.1");
    machine.started();
    machine.replace_program(&new);
    machine.phase("trying");
    machine.d(["daemon", "restart"]).run().expect_success();
    machine.serves("0.1.1");
    // The one that was stopped had not proved itself; the one after it may have, or need not.
    eventually(SOON, "an end of the upgrade", || {
        let phase = machine.file("upgrade.json")?["phase"].clone();
        (phase == "failed" || phase == "done").then_some(())
    });
    machine.program_is(&new);
    let newer = machine.version("0.1.2");
    machine.replace_program(&newer);
    machine.phase("trying");
    machine.d(["daemon", "stop"]).run().expect_success();
    eventually(SOON, "the guard to be gone", || machine.guards().is_empty().then_some(()));
    assert_eq!(machine.status()["running"], false);
    machine.program_is(&newer);
    machine.started();
    machine.serves("0.1.2");
}
