//! Names that no peer can have, and names that would be another subject.

use std::time::Duration;

use crate::bad_input::{Person, mistake};
use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;

/// Names that would be another subject if they were placed into one, and names that are none.
const STRANGE_PEERS: [&str; 11] =
    ["*", ">", "w1.*", "w1.>", "w*", "a.b", "w1.ping", " ", "w1 w2", "W2", "w1\r\nPUB x 0"];

#[test]
fn a_peer_that_no_subject_may_hold() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    let mut ear = Raw::connect(&fleet.url());
    let heard = ear.subscribe("exec.>");
    // One that is too long for an id may be a hostname.
    let long = "a".repeat(64);
    for peer in STRANGE_PEERS.into_iter().chain([long.as_str()]) {
        for arguments in [
            ["exec", peer, "-C", "/", "--", "true"].as_slice(),
            &["execOnPeer", "--peer", peer, "--directory", "/", "--shellCmd", "true"],
            &["ping", peer],
            &["peer", "show", peer],
        ] {
            let finished = fleet.d(arguments).expect_code(254);
            assert!(finished.stdout.is_empty(), "{finished:?}");
            // A line is one line, whatever is in it.
            let shown = peer.replace('\r', "\\r").replace('\n', "\\n");
            assert!(finished.err().contains(&format!("Peer not found: {shown}")), "{finished:?}");
        }
    }
    ear.barrier();
    let heard = ear.next_on(heard, Duration::ZERO);
    assert!(heard.is_none(), "nothing was sent to any peer: {heard:?}");
}

#[test]
fn a_name_that_no_peer_can_have() {
    let person = Person::new();
    for (peer, why) in [(String::new(), "it is empty"), ("a".repeat(256), "it is longer than 255 bytes")] {
        person.mistypes(&["exec", &peer, "-C", "/", "--", "true"], &["<PEER>", why]);
        person.mistypes(&["ping", &peer], &["<PEER>", why]);
        person.mistypes(&["peer", "show", &peer], &["<PEER>", why]);
    }
    let long = "a".repeat(256);
    let old = ["execOnPeer", "--peer", &long, "--directory", "/", "--shellCmd", "true"];
    person.mistypes(&old, &["d: --peer: it is longer than 255 bytes"]);
    person.mistypes(&["getPeerInfo", "--peer", &long], &["d: --peer: it is longer than 255 bytes"]);
}

#[test]
fn a_peer_that_no_subject_may_hold_without_a_registry() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut ear = Raw::connect(&fleet.url());
    let heard = ear.subscribe("exec.>");
    for peer in ["*", ">", "w1.*", "nobody.example"] {
        let finished = fleet.d(["exec", peer, "-C", "/", "--", "true"]).expect_code(255);
        assert!(finished.stdout.is_empty(), "{finished:?}");
        assert!(finished.err().starts_with("d: registry unreachable: "), "{finished:?}");
        assert!(finished.err().contains(peer), "{finished:?}");
    }
    ear.barrier();
    assert!(ear.next_on(heard, Duration::ZERO).is_none());
}

#[test]
fn a_daemon_that_is_to_have_no_proper_name() {
    let person = Person::new();
    let long = "a".repeat(64);
    for id in ["*", ">", "a.b", "", "-", "W1", "é", "w 1", long.as_str()] {
        let flag = format!("--id={id}");
        let said = person.mistypes(&["daemon", "run", &flag], &["is not a peer id"]);
        assert!(said.starts_with("d: "), "{said}");
    }
    mistake(
        person.command(["daemon", "run"]).env("PEERBUS_PEER_ID", "a.b").run(),
        &["\"a.b\" is not a peer id"],
    );
    mistake(
        person.command(["daemon", "run"]).env("PEERBUS_ROLE", "boss").run(),
        &["PEERBUS_ROLE", "\"boss\""],
    );
    person.mistypes(&["daemon", "run", "--role", "boss"], &["--role", "'boss'", "leader", "worker"]);
    for listen in ["0.0.0.0:4222", "8.8.8.8:4222", "here", "[::]:4222"] {
        let arguments = ["daemon", "run", "--broker", "managed", "--broker-listen", listen];
        person.mistypes(
            &arguments,
            &["--broker-listen", listen.trim_end_matches(":4222").trim_matches(['[', ']'])],
        );
    }
}
