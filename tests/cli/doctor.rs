//! `d doctor`: each check passes where all is well, fails for its own reason, and is skipped where
//! its ground is missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::harness::child::Finished;
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use nix::sys::signal::Signal;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

fn report(finished: &Finished) -> Value {
    serde_json::from_str(&finished.out()).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// The result of one check, and what it says.
fn check(report: &Value, about: &str, name: &str) -> (String, String) {
    let checks = report["checks"].as_array().unwrap();
    let found: Vec<&Value> =
        checks.iter().filter(|check| check["about"] == about && check["check"] == name).collect();
    let [one] = found.as_slice() else { panic!("{about} {name} is there once: {report}") };
    let text = |key: &str| one[key].as_str().unwrap().to_owned();
    assert_eq!(one["next"].is_string(), one["result"] == "fail", "a failure says what to do: {one}");
    (text("result"), text("detail"))
}

fn result(report: &Value, about: &str, name: &str) -> String {
    check(report, about, name).0
}

fn two() -> Fleet {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SOON);
    fleet
}

#[test]
fn where_all_is_well_everything_passes() {
    let fleet = two();
    let text = fleet.command_on("w1", ["doctor"]).run().expect_success();
    let out = text.out();
    let headings: Vec<&str> = out.lines().filter(|line| !line.starts_with(' ')).collect();
    let [here, fleets, lead, w1, verdict] = headings.as_slice() else { panic!("{out}") };
    assert_eq!([*here, *fleets, *lead, *w1], ["here", "fleet", "lead", "w1"]);
    assert!(verdict.starts_with("all ") && verdict.ends_with(" checks passed"), "{out}");
    assert!(!out.contains("FAIL") && !out.contains("SKIP") && !out.contains('\x1b'), "{out}");
    let json = report(&fleet.command_on("w1", ["doctor", "w1", "--json"]).run().expect_success());
    assert_eq!((json["verdict"].as_str(), json["failed"].as_u64()), (Some("pass"), Some(0)));
    assert!(
        json["checks"].as_array().unwrap().iter().all(|check| check["about"] != "lead"),
        "one was asked for"
    );
    for name in ["presence", "round trip", "echo", "clock", "journal disk", "control groups", "state rights"]
    {
        assert_eq!(result(&json, "w1", name), "pass", "{name}");
    }
}

#[test]
fn a_peer_that_is_away_is_where_it_stops() {
    let fleet = two();
    fleet.daemon("w1").terminate();
    let done = fleet.d(["doctor", "--json"]).expect_code(1);
    let json = report(&done);
    assert_eq!(json["verdict"], "fail");
    assert_eq!(
        (result(&json, "w1", "presence"), result(&json, "w1", "round trip")),
        ("fail".into(), "fail".into())
    );
    for name in ["echo", "clock", "journal disk", "control groups", "state rights"] {
        assert_eq!(result(&json, "w1", name), "skip", "{name}");
    }
    assert_eq!(result(&json, "lead", "echo"), "pass", "the others are looked at all the same");
    let text = fleet.d(["doctor", "w1"]).expect_code(1).out();
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("  w1: round trip: on w1: is the machine on"), "{text}");
}

#[test]
fn a_frozen_peer_is_not_taken_for_a_healthy_one() {
    let fleet = two();
    fleet.daemon("w1").signal(Signal::SIGSTOP);
    let json = report(&fleet.d(["doctor", "w1", "--json"]).expect_code(1));
    fleet.daemon("w1").signal(Signal::SIGCONT);
    assert_eq!(result(&json, "w1", "round trip"), "fail");
}

#[test]
fn without_a_leader_a_peer_is_still_looked_at() {
    let fleet = two();
    fleet.daemon("lead").terminate();
    let json = report(&fleet.d(["doctor", "w1", "--json"]).expect_code(1));
    assert_eq!(
        (result(&json, "fleet", "bus"), result(&json, "fleet", "registry")),
        ("pass".into(), "fail".into())
    );
    assert_eq!(
        (result(&json, "w1", "presence"), result(&json, "w1", "echo")),
        ("skip".into(), "pass".into())
    );
    // Its own daemon knows that nobody hears it.
    let own = report(&fleet.command_on("w1", ["doctor", "--json"]).run().expect_code(1));
    assert_eq!(
        check(&own, "here", "daemon"),
        ("fail".into(), "worker w1 is ready, but no leader hears it".into())
    );
}

#[test]
fn without_a_bus_that_is_what_fails() {
    let fleet = two();
    fleet.server().kill();
    let json = report(&fleet.d(["doctor", "w1", "--json"]).expect_code(1));
    assert_eq!(
        (result(&json, "fleet", "bus"), result(&json, "fleet", "registry")),
        ("fail".into(), "skip".into())
    );
}

#[test]
fn rights_and_a_stopped_daemon_are_seen() {
    let fleet = two();
    let state = fleet.daemon("w1").state_directory().to_owned();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    let json = report(&fleet.command_on("w1", ["doctor", "w1", "--json"]).run().expect_code(1));
    assert_eq!(
        (result(&json, "w1", "state rights"), result(&json, "here", "file rights")),
        ("fail".into(), "fail".into())
    );
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let secret = fleet.file("secret.toml", format!("nats = \"nats://token@{}\"\n", fleet.server().address()));
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let with_secret = fleet.command_on("w1", ["doctor", "w1", "--json"]).env("PEERBUS_CONFIG", &secret);
    let done = with_secret.run().expect_code(1);
    assert_eq!(result(&report(&done), "here", "file rights"), "fail");
    assert!(!done.out().contains("token@") && !done.err().contains("token@"), "{done:?}");
    fleet.daemon("w1").terminate();
    let json = report(&fleet.command_on("w1", ["doctor", "lead", "--json"]).run().expect_code(1));
    assert_eq!(check(&json, "here", "daemon").1, "worker w1 is not ready: asked to stop");
}

#[test]
fn what_a_peer_says_of_itself_is_judged() {
    let fleet = Fleet::builder().leader("lead").start();
    let mut raw = Raw::connect(&fleet.server().url());
    let beat = |interval: u64| {
        serde_json::json!({
            "type": "peerbus.heartbeat.v1", "peer_id": "odd", "state": "up",
            "instance": "5f0f1d4c-6d2e-4f6e-9d5a-0d9c3b1a2f3e", "seq": 1, "interval_ms": interval,
            "hostname": "odd", "ip_address": null, "mac_address": null, "role": "worker",
            "daemon_version": "0.0.1", "os": "linux", "arch": "x86_64", "uptime_s": 1, "load": null,
            "jobs": 0, "tags": [],
        })
    };
    raw.publish("peers.alive", beat(600_000).to_string());
    fleet.wait_for_states(&[("lead", "online"), ("odd", "online")], SOON);
    let heard = raw.subscribe("exec.odd.*");
    raw.barrier();
    let principal = fleet.spawn_d(["doctor", "odd", "--json"]);
    let answer = std::thread::spawn(move || {
        let mut principal = principal;
        principal.wait(Duration::from_secs(60))
    });
    let mut asked = Vec::new();
    while asked.len() < 2 {
        let question =
            raw.expect_on(heard, Duration::from_secs(30), "a ping, then a question for its health");
        let reply = question.reply.clone().unwrap();
        if question.subject == "exec.odd.ping" {
            raw.publish(&reply, beat(600_000).to_string());
        } else {
            let health = serde_json::json!({
                "type": "peerbus.health.v1", "peer_id": "odd", "instance": "5f0f1d4c-6d2e-4f6e-9d5a-0d9c3b1a2f3e",
                "daemon_version": "0.0.1", "now_ms": 1_000, "user": "root", "containment": "reaper",
                "journal_free": 1_048_576, "journal_size": 1_073_741_824, "state_dir_mode": 0o755,
            });
            raw.publish(&reply, health.to_string());
        }
        asked.push(question.subject);
    }
    assert_eq!(asked, ["exec.odd.ping", "exec.odd.health"]);
    let json = report(&answer.join().unwrap().expect_code(1));
    // Nobody answered for the command.
    for name in ["echo", "clock", "journal disk", "state rights"] {
        assert_eq!(result(&json, "odd", name), "fail", "{name}");
    }
    assert!(check(&json, "odd", "control groups").1.contains("reaper"));
    assert!(check(&json, "fleet", "versions").1.contains("odd runs 0.0.1"));
}

#[test]
fn names_and_settings_that_lead_nowhere() {
    let fleet = Fleet::builder().leader("lead").daemon(DaemonOptions::worker("w1")).start();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SOON);
    fleet.d(["doctor", "nobody"]).expect_code(254);
    // Both are on 127.0.0.1.
    assert!(fleet.d(["doctor", "127.0.0.1"]).expect_code(254).err().contains("ambiguous"));
    fleet.d(["doctor", "lead", "w1"]).expect_code(2);
    let broken = fleet.file("broken.toml", "role = \n");
    let json =
        report(&fleet.command(["doctor", "--json"]).env("PEERBUS_CONFIG", broken).run().expect_code(1));
    let (outcome, detail) = check(&json, "here", "configuration");
    assert!(outcome == "fail" && detail.contains("line 1"), "{detail}");
}
