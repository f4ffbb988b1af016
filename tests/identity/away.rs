//! A peer that was away while somebody was revoked, on a server that lets everybody do everything: what it
//! knows is all that keeps them out.

use std::time::Duration;

use peerbus::identity::IdentityFile;
use peerbus::protocol::identity::Standing;

use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::{Message, Raw};
use crate::harness::speaker::{Said, job_id, request};
use crate::machines::{Machines, SOON};

/// Between two requests of somebody who does not give up.
const AT_ONCE: Duration = Duration::from_millis(5);

#[test]
fn it_hears_of_it_before_it_hears_them() {
    let fleet =
        Fleet::builder().secured().open_broker().daemon(DaemonOptions::worker("w1").through_relay()).start();
    let keys = format!("fleet_keys = {:?}\n", fleet.secured().keys());
    fleet.add(DaemonOptions::leader("lead").configuration(&keys));
    let bob = IdentityFile::read(&fleet.secured().member("bob", Standing::Operator)).unwrap().unwrap();
    let mark = fleet.path().join("mark");
    let runs = || std::fs::read_to_string(&mark).map_or(0, |text| text.lines().count());
    let mut raw = Raw::connect(&fleet.server().url());
    let inbox = "_INBOX_bob.x";
    raw.subscribe(inbox);
    let line = format!("echo ran >> '{}'", mark.display());
    let ask = |raw: &mut Raw| {
        Said::unsigned("exec.w1", inbox, request(&job_id(), &line).to_string()).signed(&bob).say(raw);
    };
    let is_result = |message: &Message| message.header("D-Kind") == Some("result");
    ask(&mut raw);
    assert_eq!(raw.next_where(SOON, is_result).unwrap().json()["ending"]["exited"]["code"], 0);
    assert_eq!(runs(), 1);
    let w1 = fleet.daemon("w1");
    w1.relay().cut();
    let changes = raw.subscribe("fleet.account.changed");
    fleet.secured().authority().revoke(&"bob".parse().unwrap()).unwrap();
    raw.next_on(changes, SOON).expect("the leader tells of it");
    let before = w1.relay().connections();
    w1.relay().heal();
    // Whoever was revoked asks all the time, so that one of these is there as soon as the peer listens.
    let refused = crate::harness::wait::eventually(SOON, "the peer to refuse bob", || {
        ask(&mut raw);
        raw.next_where(AT_ONCE, is_result).map(|result| result.json())
    });
    let said = refused["ending"]["refused"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("the identity of bob was revoked"), "{refused}");
    assert!(w1.relay().connections() > before);
    assert_eq!(runs(), 1, "the first word it heard was refused");
}

#[test]
fn without_a_leader_it_goes_on_with_what_it_knows() {
    let fleet = Fleet::builder().secured().worker("w1").start();
    let keys = format!("fleet_keys = {:?}\n", fleet.secured().keys());
    let leader = fleet.add(DaemonOptions::leader("lead").configuration(&keys));
    let bob = IdentityFile::read(&fleet.secured().member("bob", Standing::Operator)).unwrap().unwrap();
    fleet.secured().authority().revoke(&"bob".parse().unwrap()).unwrap();
    let w1 = fleet.daemon("w1");
    let heard = || Machines::has_heard_in(w1.state_directory(), &bob).then_some(());
    crate::harness::wait::eventually(SOON, "the peer to have heard", heard);
    leader.terminate();
    w1.restart();
    assert!(heard().is_some(), "what was heard is kept");
    let ran = fleet.d(["exec", "w1", "-C", "/", "--", "echo", "ran"]).expect_success();
    assert_eq!(ran.out(), "ran\n");
}
