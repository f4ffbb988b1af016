//! The status: proven, with stable keys.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::procs;
use crate::harness::wait::eventually;
use crate::lifecycle::bench::{Machine, SOON};

const KEYS: [&str; 18] = [
    "running",
    "ready",
    "state",
    "reason",
    "since",
    "pid",
    "peer_id",
    "role",
    "nats",
    "on_the_bus",
    "connected_to_leader",
    "version",
    "program",
    "next",
    "run_by",
    "unit",
    "state_dir",
    "log",
];

#[test]
fn the_keys_are_always_the_same() {
    let machine = Machine::new();
    let keys = |code: i32| {
        let status = machine.status(code);
        let keys: Vec<String> = status.as_object().unwrap().keys().cloned().collect();
        let mut wanted = KEYS.map(str::to_owned).to_vec();
        wanted.sort();
        assert_eq!(keys, wanted);
        status
    };
    let never = keys(3);
    assert_eq!((&never["state"], &never["pid"]), (&"never_started".into(), &serde_json::Value::Null));
    let pid = machine.started();
    // A busy machine may hear an answer too late, and takes itself for cut off.
    let ready =
        eventually(SOON, "the bus to answer", || Some(keys(0)).filter(|ready| ready["on_the_bus"] == true));
    assert_eq!((&ready["state"], &ready["run_by"]), (&"ready".into(), &"detached".into()));
    assert_eq!((&ready["pid"], &ready["on_the_bus"]), (&pid.into(), &true.into()));
    assert_eq!(ready["log"], machine.log().to_str().unwrap());
    machine.stop().run().expect_success();
    assert_eq!(keys(3)["reason"], "asked to stop");
}

#[test]
fn one_in_the_foreground_is_told_from_a_detached_one() {
    let machine = Machine::new();
    let mut live = machine.command(["daemon", "run"]).spawn();
    live.stderr_line(SOON, |line| line.starts_with("ready "));
    let status = machine.status(0);
    assert_eq!((&status["run_by"], &status["pid"]), (&"foreground".into(), &live.pid().into()));
    assert_eq!(status["log"], serde_json::Value::Null);
    let text = machine.command(["daemon", "status"]).run().expect_success().out();
    for fact in ["daemon      runs", "state       ready: serving", "run         in the foreground"] {
        assert!(text.contains(fact), "{fact}: {text}");
    }
}

#[test]
fn a_daemon_off_the_bus_is_not_ready_until_it_is_back() {
    let machine = Machine::new();
    machine.started();
    machine.fleet.server().kill();
    let why = "off the bus: connecting to the bus at nats://127.0.0.1";
    let status = eventually(SOON, "the daemon to notice", || {
        let status = machine.status(1);
        status["reason"].as_str().is_some_and(|reason| reason.starts_with(why)).then_some(status)
    });
    assert_eq!((&status["running"], &status["state"]), (&true.into(), &"ready".into()));
    assert_eq!((&status["ready"], &status["on_the_bus"]), (&false.into(), &false.into()));
    machine.fleet.server().restart();
    eventually(SOON, "the daemon to be back", || {
        let back = machine.command(["daemon", "status", "--json"]).run();
        (back.code() == Some(0)).then_some(())
    });
    assert_eq!(machine.status(0)["reason"], "serving");
}

#[test]
fn a_state_file_alone_proves_nothing() {
    let machine = Machine::new();
    let pid = machine.started();
    let file = machine.state().join("state.json");
    let ready = fs::read_to_string(&file).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually(SOON, "its end", || procs::look_at(pid).is_none().then_some(()));
    let killed = machine.status(3);
    assert_eq!(killed["reason"], format!("process {pid} ended without saying why"));
    // The file of a process that lives, and holds nothing.
    let own = fs::read_to_string("/proc/self/stat").unwrap();
    let own_start = own.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().to_owned();
    let state: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let claimed =
        ready.replace(&format!("\"pid\":{pid}"), &format!("\"pid\":{}", std::process::id())).replace(
            &format!("\"start_time\":{}", state["process"]["start_time"]),
            &format!("\"start_time\":{own_start}"),
        );
    assert_ne!(claimed, ready);
    fs::write(&file, claimed).unwrap();
    assert_eq!(machine.status(3)["running"], false);
    // A corrupt one hides nothing of a daemon that runs.
    fs::remove_file(&file).unwrap();
    let pid = machine.started();
    fs::write(&file, "{").unwrap();
    let status = machine.status(1);
    assert_eq!((&status["running"], &status["pid"]), (&true.into(), &pid.into()));
    machine.stop().run().expect_success();
    assert!(procs::look_at(pid).is_none());
}
