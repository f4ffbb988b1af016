//! `d ping`: the round trip to a peer's daemon.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::wait::eventually;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// A ping that is to be answered, on a busy machine too.
const PATIENT: [&str; 4] = ["ping", "w1", "--timeout", "20s"];

/// The milliseconds in `w1: 0.512 ms (peerbus …)`.
fn milliseconds(line: &str) -> f64 {
    let (peer, rest) = line.split_once(": ").unwrap();
    let (number, rest) = rest.split_once(" ms (peerbus ").unwrap();
    assert!(peer == "w1" && rest.starts_with(peerbus::VERSION) && rest.ends_with(" jobs)"), "{line}");
    number.parse().unwrap()
}

#[test]
fn a_ping_shows_the_round_trip() {
    let fleet = Fleet::of_workers(["w1"]);
    let one = fleet.d(PATIENT).expect_success();
    assert_eq!((one.out().lines().count(), one.err().as_str()), (1, ""));
    let ms = milliseconds(one.out().trim_end());
    assert!(ms > 0.0 && ms <= one.took.as_secs_f64() * 1000.0, "{ms} ms in {:?}", one.took);

    let five = fleet.d([&PATIENT[..], &["--count", "5"]].concat()).expect_success();
    assert_eq!(five.out().lines().map(milliseconds).count(), 5, "{five:?}");
    fleet.d(["ping", "w1", "-c", "0"]).expect_code(2);
    fleet.d(["ping"]).expect_code(2);
}

#[test]
fn a_slow_link_shows() {
    let fleet = Fleet::builder().worker("w1").client_relay().start();
    fleet.client_relay().delay(Duration::from_millis(100));
    let ms = milliseconds(fleet.d(PATIENT).expect_success().out().trim_end());
    assert!(ms >= 200.0, "{ms} ms over 100 ms each way");
}

#[test]
fn json_has_one_line_an_answer() {
    let fleet = Fleet::of_workers(["w1"]);
    let two = fleet.d([&PATIENT[..], &["-c", "2", "--json"]].concat()).expect_success();
    let lines: Vec<Value> = two.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        let keys: BTreeSet<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, BTreeSet::from(["daemon_version", "instance", "ms", "peer_id"]));
        assert_eq!((&line["peer_id"], line["ms"].as_f64().unwrap() > 0.0), (&Value::from("w1"), true));
        assert_eq!(line["daemon_version"], peerbus::VERSION);
        assert_eq!(line["instance"], lines[0]["instance"]);
    }
}

#[test]
fn a_ping_without_an_answer_fails_and_says_why() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SOON);
    let unknown = fleet.d(["ping", "nobody"]).expect_code(254);
    assert!(unknown.out().is_empty() && unknown.err().contains("Peer not found: nobody"), "{unknown:?}");

    fleet.daemon("w1").freeze();
    let silent = fleet.d(["ping", "w1", "--timeout", "300ms"]).expect_code(252);
    assert!(silent.out().is_empty() && silent.err().starts_with("d: timed out: w1: "), "{silent:?}");
    assert!(
        silent.took >= Duration::from_millis(300) && silent.took < Duration::from_secs(15),
        "{:?}",
        silent.took
    );
    fleet.daemon("w1").thaw();
    fleet.d(PATIENT).expect_success();

    fleet.daemon("w1").kill9();
    // The server may need a moment to see that its connection has ended.
    let gone = eventually(SOON, "the server to miss it", || {
        let finished = fleet.d(["ping", "w1"]);
        (finished.code() != Some(252)).then_some(finished)
    });
    let gone = gone.expect_code(253);
    assert!(gone.out().is_empty() && gone.err().contains("Peer is offline: w1"), "{gone:?}");

    fleet.server().kill();
    let no_bus = fleet.d(["ping", "w1"]).expect_code(255);
    assert!(no_bus.out().is_empty() && no_bus.err().starts_with("d: bus unreachable: "), "{no_bus:?}");
    assert!(no_bus.err().contains(&fleet.url()), "it names the bus: {no_bus:?}");
}

#[test]
fn without_a_leader_a_ping_by_id_needs_nobody_else() {
    let fleet = Fleet::of_workers(["w1"]);
    fleet.d(PATIENT).expect_success();
    let nobody = fleet.d(["ping", "nobody"]).expect_code(253);
    assert!(nobody.err().contains("or unknown: the registry is away"), "{nobody:?}");
}

#[test]
fn a_peer_that_comes_back_answers_as_another_instance() {
    let fleet = Fleet::builder().daemon(DaemonOptions::worker("w1")).start();
    let instance = || {
        let line = fleet.d([&PATIENT[..], &["--json"]].concat()).expect_success().out();
        serde_json::from_str::<Value>(&line).unwrap()["instance"].as_str().unwrap().to_owned()
    };
    let before = instance();
    fleet.daemon("w1").restart();
    assert_ne!(instance(), before);
}
