//! Taking a peer out of the registry: `deletePeer`, `peer rm`, and `peers.remove` on the bus.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;

const SOON: Duration = Duration::from_secs(30);

/// A leader, and a worker that has left.
fn one_gone() -> Fleet {
    let fleet = Fleet::builder().leader("lead").worker("far-vps").start();
    fleet.wait_for_states(&[("lead", "online"), ("far-vps", "online")], SOON);
    fleet.daemon("far-vps").terminate();
    fleet.wait_for_states(&[("lead", "online"), ("far-vps", "offline")], SOON);
    fleet
}

#[test]
fn a_deleted_peer_is_gone_and_stays_so() {
    let fleet = one_gone();
    let mut raw = Raw::connect(&fleet.server().url());
    let events = raw.subscribe("peers.event.removed.*");
    raw.barrier();
    let said = fleet.d(["deletePeer", "--peer", "far-vps"]).expect_success();
    assert_eq!((said.out(), said.err()), ("Deleted peer: far-vps\n".to_owned(), String::new()));
    assert_eq!(raw.expect_on(events, SOON, "the event").json()["peer_id"], "far-vps");
    fleet.wait_for_states(&[("lead", "online")], SOON);
    fleet.d(["deletePeer", "--peer", "far-vps"]).expect_code(254);
    // It was answered once the database had it.
    fleet.daemon("lead").kill9();
    fleet.daemon("lead").restart();
    fleet.wait_for_states(&[("lead", "online")], SOON);
}

#[test]
fn a_peer_that_still_beats_joins_again() {
    let fleet = Fleet::builder().leader("lead").worker("far-vps").start();
    fleet.wait_for_states(&[("lead", "online"), ("far-vps", "online")], SOON);
    let kept = fleet.d(["peer", "rm", "far-vps"]).expect_code(1);
    assert!(
        kept.out().is_empty() && kept.err().starts_with("d: far-vps is online and would be back"),
        "{kept:?}"
    );
    let said = fleet.d(["peer", "rm", "far-vps", "--force"]).expect_success();
    assert_eq!(said.out(), "removed far-vps\n");
    assert!(
        said.err().starts_with("d: far-vps is online, so it is back with its next heartbeat"),
        "{said:?}"
    );
    fleet.wait_for_states(&[("lead", "online"), ("far-vps", "online")], SOON);
    let row: Value =
        serde_json::from_str(&fleet.d(["peer", "rm", "far-vps", "--json", "--force"]).expect_success().out())
            .unwrap();
    assert_eq!((&row["peer_id"], &row["is_online"]), (&json!("far-vps"), &json!(true)));
}

#[test]
fn a_peer_is_removed_by_any_of_its_names_but_never_by_half_of_one() {
    let fleet = one_gone();
    let mut raw = Raw::connect(&fleet.server().url());
    let mut ask = |body: Value| raw.request("peers.remove", body.to_string(), SOON);
    // Both are on 127.0.0.1 and have the same hostname.
    let many = ask(json!({ "peer": "127.0.0.1" })).json();
    assert_eq!((&many["found"], &many["ids"]), (&json!("many"), &json!(["far-vps", "lead"])));
    assert_eq!(ask(json!({ "peer": "far-vp" })).json()["found"], "none");
    for bad in [
        json!({}),
        json!({ "peer": "" }),
        json!({ "peer": 7 }),
        json!({ "type": "peerbus.peers_get.v1", "peer": "far-vps" }),
    ] {
        let answer = ask(bad.clone());
        assert_eq!(answer.header("Nats-Service-Error"), Some("bad_request"), "{bad}");
    }
    let answer = ask(json!({ "type": "peerbus.peers_remove.v1", "peer": "far-vps" })).json();
    assert_eq!((&answer["type"], &answer["found"]), (&json!("peerbus.peer_removed.v1"), &json!("one")));
    assert_eq!(answer["peer"]["peer_id"], "far-vps");
}

#[test]
fn nobody_is_removed_while_that_cannot_be_written() {
    let fleet = one_gone();
    let database = fleet.daemon("lead").state_directory().join("registry.db");
    // A lock that somebody else holds keeps the leader from writing.
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nc.execute('BEGIN EXCLUSIVE')\nprint('held', flush=True)\nsys.stdin.read()\n";
    let holder = fleet.command(["unused"]).open_input().instead("python3").with(|command| {
        command.args(["-c", script]).arg(&database);
    });
    let mut holder = holder.spawn();
    holder.stdout_line(SOON, |line| line == "held");
    let said = fleet.command(["deletePeer", "--peer", "far-vps"]).deadline(Duration::from_secs(30)).run();
    let said = said.expect_code(255);
    assert_eq!(said.out(), "", "not said before it is so");
    holder.close_stdin();
    holder.wait(SOON);
}
