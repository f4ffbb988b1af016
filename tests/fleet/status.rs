//! `d status` and `d getPeerStatus`: what this machine's daemon does, or did last.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::harness::child::Finished;
use crate::harness::fleet::{DCommand, Fleet};
use crate::harness::scratch::Scratch;
use crate::harness::server::ServerOptions;
use crate::harness::wait::{eventually, within};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

const WORKERS_KEYS: [&str; 5] = ["role", "peer_id", "leader_address", "is_leader", "connected_to_leader"];

fn json_of(finished: &Finished) -> Value {
    match serde_json::from_str(&finished.out()) {
        Ok(value) => value,
        Err(error) => panic!("not JSON ({error}): {finished:?}"),
    }
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// `d getPeerStatus` on the machine of a daemon.
fn peer_status(fleet: &Fleet, id: &str) -> Value {
    json_of(&fleet.command_on(id, ["getPeerStatus"]).run().expect_success())
}

/// Waits until `d getPeerStatus` shows this: an answer that comes too late on a busy machine counts as none.
#[track_caller]
fn wait_for_status(fleet: &Fleet, id: &str, wanted: &Value) {
    let mut shown = Value::Null;
    within(SOON, || {
        shown = peer_status(fleet, id);
        (shown == *wanted).then_some(())
    });
    assert_eq!(shown, *wanted);
}

fn wait_until_heard(fleet: &Fleet, id: &str) {
    eventually(SOON, "the leader to hear it", || {
        (peer_status(fleet, id)["connected_to_leader"] == true).then_some(())
    });
}

#[test]
fn the_status_of_leader_and_worker_is_as_scripts_expect() {
    let fleet = Fleet::builder().leader("lead").worker("w1").worker("w2").start();
    fleet.wait_for_states(&["lead", "w1", "w2"].map(|id| (id, "online")), SOON);
    let wanted = json!({
        "role": "worker", "peer_id": "w1", "leader_address": "127.0.0.1", "is_leader": false,
        "connected_to_leader": true,
    });
    wait_for_status(&fleet, "w1", &wanted);
    let wanted = json!({
        "role": "leader", "peer_id": "lead", "leader_address": "127.0.0.1", "is_leader": true,
        "connected_to_leader": true, "connected_workers": ["w1", "w2"],
    });
    wait_for_status(&fleet, "lead", &wanted);

    fleet.daemon("w2").terminate();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online"), ("w2", "offline")], SOON);
    eventually(SOON, "the leader to count one worker", || {
        (peer_status(&fleet, "lead")["connected_workers"] == json!(["w1"])).then_some(())
    });
    fleet.daemon("lead").kill9();
    assert_eq!(peer_status(&fleet, "w1")["connected_to_leader"], false);
    assert_eq!(keys(&peer_status(&fleet, "w1")), BTreeSet::from(WORKERS_KEYS));
}

#[test]
fn people_see_what_the_daemon_does() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    wait_until_heard(&fleet, "w1");
    let text = eventually(SOON, "the leader to hear it", || {
        let text = fleet.command_on("w1", ["status"]).run().expect_success().out();
        text.contains("hears us").then_some(text)
    });
    let fact = |name: &str| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.and_then(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}")).trim()
    };
    assert_eq!((fact("peer"), fact("role"), fact("state")), ("w1", "worker", "ready: serving"));
    assert_eq!((fact("process"), fact("bus")), (&*fleet.daemon("w1").pid().to_string(), &*fleet.url()));
    assert_eq!((fact("leader"), fact("version")), ("hears us", peerbus::VERSION));
    let status = eventually(SOON, "the leader to hear it", || {
        let status = json_of(&fleet.command_on("w1", ["status", "--json"]).run().expect_success());
        (status["connected_to_leader"] == true).then_some(status)
    });
    assert_eq!((&status["peer_id"], &status["state"]), (&json!("w1"), &json!("ready")));
    assert_eq!(status["process"]["pid"], fleet.daemon("w1").pid());
    fleet.daemon("lead").kill9();
    let status = fleet.command_on("w1", ["status"]).run().expect_success().out();
    assert!(status.contains("does not hear us"), "{status}");
}

#[test]
fn of_a_stopped_and_a_killed_daemon_the_truth_is_told() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    wait_until_heard(&fleet, "w1");
    let look = || json_of(&fleet.command_on("w1", ["status", "--json"]).run().expect_code(1));
    let pid = fleet.daemon("w1").pid();
    fleet.daemon("w1").kill9();
    let killed = look();
    assert_eq!((&killed["state"], &killed["connected_to_leader"]), (&json!("failed"), &json!(false)));
    assert_eq!(killed["state_reason"], format!("process {pid} ended without saying why"));
    assert_eq!(keys(&peer_status(&fleet, "w1")), BTreeSet::from(WORKERS_KEYS));
    assert_eq!(peer_status(&fleet, "w1")["connected_to_leader"], false);

    fleet.daemon("w1").restart();
    fleet.daemon("w1").terminate();
    let stopped = look();
    assert_eq!((&stopped["state"], &stopped["connected_to_leader"]), (&json!("stopped"), &json!(false)));
    assert_eq!(stopped["state_reason"], "asked to stop");
    let text = fleet.command_on("w1", ["status"]).run().expect_code(1).out();
    assert!(text.contains("stopped: asked to stop"), "{text}");
    assert_eq!(peer_status(&fleet, "w1")["connected_to_leader"], false);
}

#[test]
fn without_a_bus_the_status_is_told_all_the_same() {
    let fleet = Fleet::of_workers(["w1"]);
    fleet.server().kill();
    let status = eventually(SOON, "the daemon to notice", || {
        let status = fleet.command_on("w1", ["status", "--json"]).run();
        (status.code() == Some(1)).then_some(status)
    });
    let shown = json_of(&status);
    let off = &shown["off_the_bus"];
    assert!(off["why"].as_str().is_some_and(|why| !why.is_empty()) && off["since"].is_string(), "{shown}");
    assert_eq!((&shown["state"], &shown["connected_to_leader"]), (&json!("ready"), &json!(false)));
    assert!(status.took < Duration::from_secs(15), "{:?}", status.took);
}

#[test]
fn where_no_daemon_was_ever_started_it_is_said() {
    let scratch = Scratch::new();
    let state = scratch.path().join("state");
    let command = DCommand::new(scratch.path(), ["status", "--json"]).env("PEERBUS_STATE_DIR", &state);
    let shown = json_of(&command.run().expect_code(1));
    assert_eq!((&shown["state"], &shown["peer_id"]), (&json!("never_started"), &Value::Null));
    for verb in ["status", "getPeerStatus"] {
        let command = DCommand::new(scratch.path(), [verb]).env("PEERBUS_STATE_DIR", &state);
        let finished = command.run().expect_code(1);
        assert_eq!(finished.out(), "", "{finished:?}");
        let wanted = format!("d: no daemon: no daemon was ever started on {}", state.display());
        assert!(finished.err().starts_with(&wanted), "{finished:?}");
        assert!(!state.exists(), "a look makes nothing");
    }
}

#[test]
fn a_corrupt_state_file_is_named_and_a_new_daemon_sets_it_aside() {
    let fleet = Fleet::of_workers(["w1"]);
    fleet.daemon("w1").terminate();
    let file = fleet.daemon("w1").state_directory().join("state.json");
    let whole = fs::read_to_string(&file).unwrap();
    for broken in ["", "{", "[]", "\u{0}", &whole[..whole.len() / 2], &whole.replace("daemon_state", "x")] {
        fs::write(&file, broken).unwrap();
        for verb in ["status", "getPeerStatus"] {
            let finished = fleet.command_on("w1", [verb]).run().expect_code(1);
            let err = finished.err();
            assert!(finished.out().is_empty() && err.contains(&file.display().to_string()), "{finished:?}");
            assert!(err.starts_with("d: ") && err.contains("is corrupt"), "{finished:?}");
        }
    }
    fleet.daemon("w1").restart();
    let shown = json_of(&fleet.command_on("w1", ["status", "--json"]).run().expect_success());
    assert_eq!(shown["state"], "ready");
    let kept = fs::read_dir(fleet.daemon("w1").state_directory()).unwrap().flatten();
    let kept = kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("state.broken-")).count();
    assert_eq!(kept, 1, "what could not be read is kept");
}

#[test]
fn the_person_asks_with_their_own_credentials() {
    let server = ServerOptions::new().token("s3cret");
    let fleet = Fleet::builder().server(server).start();
    let secret = fleet.url().replace("nats://", "nats://s3cret@");
    let daemon = |id: &str, role: &str| {
        let state = fleet.directory(&format!("state-{id}"));
        let command = fleet.command(["daemon", "run", "--id", id, "--role", role, "--nats", &secret]);
        let mut live = command.env("PEERBUS_STATE_DIR", &state).spawn();
        live.stderr_line(SOON, |line| line.starts_with("ready "));
        (live, state)
    };
    let (_lead, _) = daemon("lead", "leader");
    let (_worker, state) = daemon("w1", "worker");
    let status = |nats: &str| {
        let command = fleet.command(["getPeerStatus"]).nats(nats).env("PEERBUS_STATE_DIR", &state);
        let finished = command.run().expect_success();
        assert!(!format!("{finished:?}").contains("s3cret"));
        json_of(&finished)["connected_to_leader"] == true
    };
    eventually(SOON, "the leader to hear it", || status(&secret).then_some(()));
    assert!(!status(&fleet.url()), "without the token nobody can be asked");
}
