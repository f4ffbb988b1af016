//! Who is in the fleet, as people, scripts and programs on the bus see it: lists, names, presence.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use crate::harness::child::{Finished, Live};
use crate::harness::fleet::{DaemonOptions, Fleet, READY_DEADLINE};
use crate::harness::nats::Raw;
use crate::harness::roster::SILENCE_DEADLINE;
use crate::harness::wait::eventually;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// The keys scripts know.
const SEVEN: [&str; 7] =
    ["peer_id", "ip_address", "mac_address", "hostname", "last_seen", "is_online", "daemon_version"];

const ALL_ONLINE: [(&str, &str); 3] = [("lead", "online"), ("w1", "online"), ("w2", "online")];

/// A leader and two workers, all of them seen.
fn three() -> Fleet {
    let fleet = Fleet::builder().leader("lead").worker("w1").worker("w2").start();
    fleet.wait_for_states(&ALL_ONLINE, SOON);
    fleet
}

/// What a peer of this name would say; nobody hears it again for ten minutes, nor has to.
fn heartbeat(id: &str, ip: Value, hostname: &str) -> String {
    json!({
        "type": "peerbus.heartbeat.v1", "peer_id": id, "state": "up",
        "instance": uuid::Uuid::new_v4().to_string(), "seq": 1, "interval_ms": 600_000,
        "hostname": hostname, "ip_address": ip, "mac_address": null, "role": "worker",
        "daemon_version": "0.1.0", "os": "linux", "arch": "x86_64", "uptime_s": 1, "load": 0.1,
        "jobs": 0, "tags": [],
    })
    .to_string()
}

/// A daemon on a machine of another name.
fn daemon_on(fleet: &Fleet, hostname: &str, id: &str) -> Live {
    let script = r#"echo "$1" >/proc/sys/kernel/hostname; shift; exec "$@""#;
    let mut unshare = vec!["--uts"];
    if !nix::unistd::geteuid().is_root() {
        unshare.extend(["--user", "--map-root-user"]);
    }
    let state = fleet.directory(&format!("state-{id}"));
    let command = fleet.command(["unused"]).instead("unshare").with(|command| {
        command.args(unshare).args(["sh", "-ec", script, "sh", hostname, env!("CARGO_BIN_EXE_d")]);
        command.args(["daemon", "run", "--id", id, "--state-dir"]).arg(state);
    });
    let mut live = command.spawn();
    live.stderr_line(READY_DEADLINE, |line| line.starts_with(&format!("ready peer={id} ")));
    live
}

fn json_of(finished: &Finished) -> Value {
    match serde_json::from_str(&finished.out()) {
        Ok(value) => value,
        Err(error) => panic!("not JSON ({error}): {finished:?}"),
    }
}

fn ids(rows: &Value) -> Vec<&str> {
    rows.as_array().unwrap().iter().map(|row| row["peer_id"].as_str().unwrap()).collect()
}

/// A failure says why on stderr, first in the words scripts know, and nothing on stdout.
#[track_caller]
fn assert_failed(finished: &Finished, code: i32, first_line: &str) {
    assert_eq!(finished.code(), Some(code), "{finished:?}");
    assert_eq!(finished.out(), "", "{finished:?}");
    assert_eq!(finished.err().lines().next(), Some(first_line), "{finished:?}");
}

fn exec_on_peer(fleet: &Fleet, peer: &str) -> Finished {
    fleet.d(["execOnPeer", "--peer", peer, "--directory", "/", "--shellCmd", "echo ran"])
}

#[test]
fn three_daemons_are_listed_as_scripts_expect() {
    let fleet = three();
    let before = jiff::Timestamp::now().as_second();
    let listed = fleet.command(["listPeers"]).env("TZ", "XYZ-9:30").run().expect_success();
    let rows = json_of(&listed);
    assert_eq!(ids(&rows), ["lead", "w1", "w2"]);
    let hostname = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for row in rows.as_array().unwrap() {
        let keys: BTreeSet<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, BTreeSet::from(SEVEN));
        assert_eq!(row["ip_address"], "127.0.0.1");
        assert_eq!(row["mac_address"], Value::Null);
        assert_eq!(row["hostname"], hostname);
        assert_eq!(row["is_online"], true);
        assert_eq!(row["daemon_version"], peerbus::VERSION);
        let seen = row["last_seen"].as_str().unwrap();
        let mut date = Command::new("date");
        date.env("TZ", "XYZ-9:30").args(["-d", seen, "+%s %Y-%m-%d %H:%M:%S"]);
        let parsed = String::from_utf8(date.output().unwrap().stdout).unwrap();
        let (seconds, again) = parsed.trim().split_once(' ').unwrap();
        assert_eq!(again, seen, "the same form");
        let seconds: i64 = seconds.parse().unwrap();
        assert!((before - 30..=before + 30).contains(&seconds), "{seen} is not around {before}");
    }
    let script = r#""$D" listPeers | jq -r '.[] | select(.is_online) | .peer_id'"#;
    let through_jq = fleet.command(["unused"]).env("D", env!("CARGO_BIN_EXE_d")).instead("sh");
    let through_jq = through_jq.with(|command| {
        command.args(["-c", script]);
    });
    assert_eq!(through_jq.run().expect_success().out(), "lead\nw1\nw2\n");
}

#[test]
fn the_list_is_sorted_by_address_as_numbers() {
    let fleet = Fleet::builder().leader("lead").start();
    let mut raw = Raw::connect(&fleet.server().url());
    for (id, ip) in [
        ("ten", json!("10.0.0.10")),
        ("nine", json!("10.0.0.9")),
        ("two", json!("2.0.0.1")),
        ("none", Value::Null),
        ("six", json!("fd00::1")),
    ] {
        raw.publish("peers.alive", heartbeat(id, ip, "host"));
    }
    let all = ["lead", "nine", "none", "six", "ten", "two"].map(|id| (id, "online"));
    fleet.wait_for_states(&all, SOON);
    let rows = json_of(&fleet.d(["listPeers"]).expect_success());
    assert_eq!(ids(&rows), ["two", "nine", "ten", "lead", "six", "none"]);
}

#[test]
fn people_see_a_table_and_programs_see_lines_of_json() {
    let fleet = Fleet::builder()
        .leader("lead")
        .daemon(DaemonOptions::worker("w1").configuration("tags = [\"web\", \"home\"]"))
        .worker("w2")
        .start();
    let rows = fleet.wait_for_states(&ALL_ONLINE, SOON);
    assert_eq!(rows[0]["role"], "leader");
    assert_eq!((&rows[1]["role"], &rows[1]["tags"]), (&json!("worker"), &json!(["web", "home"])));
    for row in &rows {
        for key in
            SEVEN.iter().chain(&["state", "role", "instance", "os", "arch", "jobs", "load", "uptime_s"])
        {
            assert!(row.get(key).is_some(), "{key} is in {row}");
        }
    }

    let table = fleet.d(["peers"]).expect_success();
    let text = table.out();
    assert!(!text.contains('\x1b') && table.err().is_empty(), "{table:?}");
    let lines: Vec<&str> = text.lines().collect();
    let heading: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(heading, ["PEER", "STATE", "ROLE", "ADDRESS", "HOSTNAME", "LAST", "SEEN", "VERSION"]);
    let first: Vec<&str> = lines[1..].iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(first, ["lead", "w1", "w2"]);
    let state = lines[0].find("STATE").unwrap();
    for line in &lines[1..] {
        assert_eq!(line[state..].split_whitespace().next(), Some("online"), "aligned: {text}");
        assert!(!line.ends_with(' '));
    }

    let wide = fleet.d(["peers", "-o", "wide"]).expect_success().out();
    let heading = wide.lines().next().unwrap();
    for word in ["PEER", "STATE", "JOBS", "LOAD", "UP", "OS", "TAGS", "HARDWARE"] {
        assert!(heading.split_whitespace().any(|cell| cell == word), "{word} is in {heading}");
    }
    let w1 = wide.lines().find(|line| line.starts_with("w1 ")).unwrap();
    assert!(w1.contains("web,home") && w1.contains(&format!("linux/{}", std::env::consts::ARCH)), "{w1}");
    fleet.d(["peers", "-o", "narrow"]).expect_code(2);
}

#[test]
fn a_peer_is_shown_by_any_of_its_names() {
    let fleet = three();
    let _far = daemon_on(&fleet, "Far.Example", "w3");
    let mut raw = Raw::connect(&fleet.server().url());
    raw.publish("peers.alive", heartbeat("w4", json!("10.9.8.7"), "elsewhere"));
    let all = ["lead", "w1", "w2", "w3", "w4"].map(|id| (id, "online"));
    fleet.wait_for_states(&all, SOON);

    for (name, id) in [("w1", "w1"), ("far.example", "w3"), ("elsewhere", "w4"), ("10.9.8.7", "w4")] {
        let info = json_of(&fleet.d(["getPeerInfo", "--peer", name]).expect_success());
        let keys: BTreeSet<&str> = info.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((info["peer_id"].as_str(), keys), (Some(id), BTreeSet::from(SEVEN)), "{name}");
        let shown = json_of(&fleet.d(["peer", "show", name, "--json"]).expect_success());
        assert_eq!((shown["peer_id"].as_str(), shown["state"].as_str()), (Some(id), Some("online")));
        let text = fleet.d(["peer", "show", name]).expect_success().out();
        let first: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(first, ["peer", id], "{text}");
    }
    assert_eq!(fleet.peer("w3")["hostname"], "Far.Example");

    // Three daemons of this machine share its hostname, and all of them its address.
    let hostname = fleet.peer("w1")["hostname"].as_str().unwrap().to_owned();
    for (name, who) in [(hostname.as_str(), "lead, w1, w2"), ("127.0.0.1", "lead, w1, w2, w3")] {
        let shown = fleet.d(["peer", "show", name]);
        assert_failed(
            &shown,
            254,
            &format!("d: not found: {name} is ambiguous: {who} have it; name one of them by its id"),
        );
        let info = fleet.d(["getPeerInfo", "--peer", name]);
        assert_failed(&info, 254, &format!("Peer not found: {name}"));
        assert!(info.err().contains(&format!("ambiguous: {who} have it")), "{info:?}");
        for refused in [
            exec_on_peer(&fleet, name),
            fleet.d(["exec", name, "-C", "/", "--", "echo", "ran"]),
            fleet.d(["ping", name]),
        ] {
            assert_eq!((refused.code(), refused.out().as_str()), (Some(254), ""), "{refused:?}");
            assert!(refused.err().contains(&format!("ambiguous: {who} have it")), "{refused:?}");
        }
    }
}

#[test]
fn a_hostname_leads_to_its_peer() {
    let fleet = three();
    let _far = daemon_on(&fleet, "farhost", "w3");
    fleet.wait_for_states(&["lead", "w1", "w2", "w3"].map(|id| (id, "online")), SOON);
    // The first could be an id and is none; the second could not.
    for name in ["farhost", "FarHost"] {
        let command = ["exec", name, "-C", "/", "--", "sh", "-c", "echo $PEERBUS_PEER"];
        assert_eq!(fleet.d(command).expect_success().out(), "w3\n", "{name}");
        assert_eq!(exec_on_peer(&fleet, name).expect_success().out(), "ran\n", "{name}");
        let answer = fleet.d(["ping", name, "--timeout", "20s"]).expect_success().out();
        assert!(answer.starts_with("w3: "), "{name}: {answer}");
    }
}

#[test]
fn an_unknown_peer_is_not_found_within_a_round_trip() {
    let fleet = three();
    // On a busy machine one may be slow.
    let quick = (0..3).any(|_| {
        let ping = fleet.d(["ping", "w1", "--timeout", "20s"]).expect_success();
        let exec = exec_on_peer(&fleet, "nobody");
        assert_failed(&exec, 254, "Peer not found: nobody");
        exec.took < ping.took * 10 + Duration::from_millis(500)
    });
    assert!(quick, "it takes longer than a round trip each time");
    assert_failed(&fleet.d(["getPeerInfo", "--peer", "nobody"]), 254, "Peer not found: nobody");
    let sentence = "d: not found: Peer not found: nobody; `d peers` shows who is known";
    assert_failed(&fleet.d(["exec", "nobody", "-C", "/", "--", "true"]), 254, sentence);
    assert_failed(&fleet.d(["peer", "show", "nobody"]), 254, sentence);
    assert_failed(&fleet.d(["ping", "nobody"]), 254, sentence);
    // Neither a subject nor anything else is made of a name that is no id.
    for odd in ["no.body", ">", "*", "no body", "Nobody"] {
        assert_failed(&exec_on_peer(&fleet, odd), 254, &format!("Peer not found: {odd}"));
    }
    for (flag, others) in [
        ("--peer", vec!["execOnPeer", "--directory", "/", "--shellCmd", "true"]),
        ("--directory", vec!["execOnPeer", "--peer", "w1", "--shellCmd", "true"]),
        ("--shellCmd", vec!["execOnPeer", "--peer", "w1", "--directory", "/"]),
        ("--peer", vec!["getPeerInfo"]),
    ] {
        let command = others[0];
        let sentence = format!("Missing required argument '{flag}' for command '{command}'.");
        assert_failed(&fleet.d(others), 2, &sentence);
    }
}

#[test]
fn a_killed_peer_is_offline_at_once_and_back_when_it_is_started() {
    let fleet = three();
    let mut raw = Raw::connect(&fleet.server().url());
    let events = raw.subscribe("peers.event.>");
    fleet.daemon("w1").kill9();
    let exec = exec_on_peer(&fleet, "w1");
    assert_failed(&exec, 253, "Peer is offline: w1");
    assert!(exec.took < Duration::from_secs(13), "{:?}", exec.took);
    let exec = fleet.d(["exec", "w1", "-C", "/", "--", "true"]);
    assert_eq!((exec.code(), exec.out().as_str()), (Some(253), ""), "{exec:?}");
    assert!(exec.err().starts_with("d: offline: Peer is offline: w1; "), "{exec:?}");
    let ping = fleet.d(["ping", "w1"]);
    assert!(ping.code() == Some(253) && ping.err().contains("Peer is offline: w1"), "{ping:?}");

    let offline = [("lead", "online"), ("w1", "offline"), ("w2", "online")];
    let rows = fleet.wait_for_states(&offline, SILENCE_DEADLINE);
    assert_eq!(rows[1]["is_online"], false);
    assert_eq!(json_of(&fleet.d(["getPeerInfo", "--peer", "w1"]).expect_success())["is_online"], false);
    assert_failed(&exec_on_peer(&fleet, "w1"), 253, "Peer is offline: w1");
    let event = raw.expect_on(events, SOON, "the event");
    assert_eq!(event.subject, "peers.event.offline.w1");

    fleet.daemon("w1").restart();
    assert_eq!(exec_on_peer(&fleet, "w1").expect_success().out(), "ran\n");
    assert_eq!(raw.expect_on(events, SOON, "the event").subject, "peers.event.online.w1");
    fleet.wait_for_states(&ALL_ONLINE, SOON);
}

#[test]
fn a_peer_that_leaves_is_offline_at_once() {
    let fleet = three();
    fleet.daemon("w1").terminate().expect_success();
    // Below the 15 s after which silence counts.
    let offline = [("lead", "online"), ("w1", "offline"), ("w2", "online")];
    fleet.wait_for_states(&offline, Duration::from_secs(12));
    assert_failed(&exec_on_peer(&fleet, "w1"), 253, "Peer is offline: w1");
}

#[test]
fn without_a_leader_lists_fail_loudly_and_commands_still_run() {
    let fleet = Fleet::builder().leader("lead").worker("w1").worker("w2").start();
    let _far = daemon_on(&fleet, "farhost", "w3");
    fleet.wait_for_states(&["lead", "w1", "w2", "w3"].map(|id| (id, "online")), SOON);
    fleet.daemon("lead").kill9();

    assert_eq!(exec_on_peer(&fleet, "w1").expect_success().out(), "ran\n");
    assert_failed(&fleet.d(["listPeers"]), 255, "Not connected to leader");
    assert_failed(&fleet.d(["getPeerInfo", "--peer", "w1"]), 255, "Not connected to leader");
    for modern in [
        &["peers"][..],
        &["peers", "--json"],
        &["peers", "-o", "wide"],
        &["peer", "show", "w1"],
        &["peer", "show", "w1", "--json"],
    ] {
        let failed = fleet.d(modern);
        assert_eq!((failed.code(), failed.out().as_str()), (Some(255), ""), "{failed:?}");
        assert!(failed.err().starts_with("d: registry unreachable: Not connected to leader"), "{failed:?}");
    }

    // Every peer is asked who it is.
    for name in ["farhost", "FARHOST"] {
        let command = ["exec", name, "-C", "/", "--", "sh", "-c", "echo $PEERBUS_PEER"];
        assert_eq!(fleet.d(command).expect_success().out(), "w3\n", "{name}");
    }
    let hostname = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let refused = fleet.d(["exec", &hostname, "-C", "/", "--", "echo", "ran"]);
    assert_eq!((refused.code(), refused.out().as_str()), (Some(254), ""), "{refused:?}");
    assert!(refused.err().contains("is ambiguous: w1, w2 have it"), "{refused:?}");

    // Nobody can say whether it is away or never was.
    assert_failed(&exec_on_peer(&fleet, "nobody"), 253, "Peer is offline: nobody");
    let exec = fleet.d(["exec", "nobody", "-C", "/", "--", "true"]);
    assert!(exec.code() == Some(253) && exec.err().contains("or unknown: the registry is away"), "{exec:?}");
    assert_failed(&exec_on_peer(&fleet, "No.Body"), 255, "Not connected to leader");
}

#[test]
fn who_comes_and_goes_is_told_on_the_bus() {
    let fleet = Fleet::builder().start();
    let mut raw = Raw::connect(&fleet.server().url());
    let events = raw.subscribe("peers.event.>");
    let mut event = |what: &str| {
        let message = raw.expect_on(events, SILENCE_DEADLINE, what);
        let told = message.json();
        let kind = told["event"].as_str().unwrap().to_owned();
        let peer = told["peer_id"].as_str().unwrap().to_owned();
        assert_eq!(message.subject, format!("peers.event.{kind}.{peer}"));
        assert_eq!(told["type"], "peerbus.peer_event.v1");
        assert!(told["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{told}");
        assert!(!told["why"].as_str().unwrap().is_empty(), "{told}");
        format!("{kind} {peer}")
    };
    fleet.add(DaemonOptions::leader("lead"));
    assert_eq!(event("the leader's own beat"), "joined lead");
    let worker = fleet.add(DaemonOptions::worker("w1"));
    assert_eq!(event("the first beat"), "joined w1");
    worker.terminate();
    assert_eq!(event("the farewell"), "offline w1");
    worker.restart();
    assert_eq!(event("the first beat again"), "online w1");
    worker.kill9();
    assert_eq!(event("the silence"), "offline w1");
}

#[test]
fn a_frozen_peer_is_offline_until_it_thaws() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SOON);
    fleet.daemon("w1").freeze();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "offline")], SILENCE_DEADLINE);
    fleet.daemon("w1").thaw();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SOON);
    assert_eq!(exec_on_peer(&fleet, "w1").expect_success().out(), "ran\n");
}

#[test]
fn garbage_on_the_registrys_subjects_changes_nothing() {
    let fleet = three();
    let before: Vec<Value> = fleet.peers();
    let mut raw = Raw::connect(&fleet.server().url());
    let events = raw.subscribe("peers.event.>");
    let good = heartbeat("w1", json!("10.0.0.1"), "host");
    let nested = "[".repeat(200_000);
    let garbage: Vec<Vec<u8>> = vec![
        b"\x00\xff\xfe".to_vec(),
        b"null".to_vec(),
        b"{".to_vec(),
        nested.into_bytes(),
        good.replace("\"w1\"", "\"w1.>\"").into_bytes(),
        good.replace("\"w1\"", "\"W1\"").into_bytes(),
        good.replace("600000", "0").into_bytes(),
        good.replace("600000", "1e99").into_bytes(),
        good.replace("heartbeat.v1", "heartbeat.v2").into_bytes(),
        good.replace("\"host\"", &format!("\"{}\"", "h".repeat(100_000))).into_bytes(),
        good.as_bytes()[..good.len() / 2].to_vec(),
        vec![b'x'; 1_000_000],
    ];
    for payload in &garbage {
        for subject in ["peers.alive", "peers.list", "peers.get"] {
            raw.publish(subject, payload);
            raw.publish_reply(subject, "exec.w1", payload);
            raw.publish_reply(subject, "peers.alive", payload);
            let refusal = raw.request(subject, payload, SOON);
            assert_eq!(refusal.header("Nats-Service-Error"), Some("bad_request"), "{subject}: {refusal:?}");
            assert_eq!(refusal.header("Nats-Service-Error-Code"), Some("400"), "{refusal:?}");
        }
    }
    // These end connections; what is lost with one must not be taken for anybody's silence.
    for headers in [&b"NATS/1.0\r\nX: a\rb\r\n\r\n"[..], b"no headers at all"] {
        for subject in ["peers.alive", "peers.list", "peers.get"] {
            raw.publish_bytes(subject.as_bytes(), b"", Some(headers), b"{}");
        }
    }
    raw.barrier();
    let after = fleet.wait_for_states(&ALL_ONLINE, SILENCE_DEADLINE);
    for (before, after) in before.iter().zip(&after) {
        for key in ["peer_id", "hostname", "ip_address", "instance", "role", "state"] {
            assert_eq!(before[key], after[key], "{key} of {}", before["peer_id"]);
        }
    }
    assert_eq!(exec_on_peer(&fleet, "w1").expect_success().out(), "ran\n");
    assert!(fleet.daemon("lead").is_running());
    raw.barrier();
    assert_eq!(raw.next_on(events, Duration::ZERO), None);
    fleet.daemon("lead").signal(Signal::SIGTERM);
    fleet.daemon("lead").wait_for_end(crate::harness::fleet::TERMINATE_DEADLINE).expect_success();
}

#[test]
fn a_list_that_is_short_because_the_registry_is_full_says_so() {
    let small = DaemonOptions::leader("lead").configuration("max_peers = 1\n");
    let fleet = Fleet::builder().daemon(small).start();
    fleet.wait_for_states(&[("lead", "online")], SOON);
    let said = fleet.d(["peers"]).expect_success();
    assert_eq!(said.err(), "", "it is full, and nobody is left out");

    let mut raw = Raw::connect(&fleet.url());
    raw.publish("peers.alive", heartbeat("more", json!(null), "more"));
    raw.barrier();
    eventually(SOON, "the leader to say so", || {
        let page = raw.request("peers.list", "", SOON).json();
        (page["left_out"] == true).then_some(())
    });
    for words in [vec!["peers"], vec!["peers", "--json"], vec!["listPeers"]] {
        let said = fleet.d(&words).expect_success();
        assert!(said.err().starts_with("d: ") && said.err().contains("max_peers"), "{said:?}");
        assert!(said.out().contains("lead") && !said.out().contains("more"), "{said:?}");
    }
}

#[test]
fn the_version_says_who_has_another_one() {
    let fleet = Fleet::builder().leader("lead").start();
    fleet.wait_for_states(&[("lead", "online")], SOON);
    let version = || {
        let said = fleet.d(["--version"]).expect_success();
        assert_eq!(said.out(), format!("d {}\n", peerbus::VERSION));
        said.err()
    };
    fleet.d(["peers"]).expect_success();
    assert_eq!(version(), "", "all are the same");
    let older = heartbeat("old", Value::Null, "old").replace("\"0.1.0\"", "\"0.0.9\"");
    Raw::connect(&fleet.server().url()).publish("peers.alive", older);
    fleet.wait_for_states(&[("lead", "online"), ("old", "online")], SOON);
    fleet.d(["peers"]).expect_success();
    assert!(version().starts_with("d: peers with another version: old 0.0.9; "), "{}", version());
    // Nobody is asked for it.
    fleet.server().kill();
    assert!(version().contains("old 0.0.9"));
}
