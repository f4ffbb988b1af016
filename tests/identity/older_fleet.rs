//! A fleet that an older version has made goes on with this one, and gets what that version did not know.

use std::fs;

use peerbus::identity::Account;
use peerbus::protocol::identity::Standing;

use crate::harness::wait::eventually;
use crate::machines::{Machines, SOON};

/// Made by `d init`, `d invite`, `d join` and `d revoke` of version 0.1.0, before there were gateways: a leader with the
/// bus and the keys, a worker, an inspector, an operator who was revoked, and an invitation that nobody has taken up.
const FIXTURE: &str = "fleet-0.1";

#[test]
fn a_fleet_of_version_0_1_goes_on_and_gets_its_gateways() {
    let machines = Machines::of_an_older_version(FIXTURE);
    let keys = machines.home("lead").join("fleet");
    let older = fs::read_to_string(keys.join("account.jwt")).unwrap();
    let lead = machines.identity("lead", "lead");
    let account = Account::read(older.trim(), &lead.fleet).unwrap();
    assert!(!account.vouching.contains_key(&Standing::Gateway) && account.vouching.len() == 5);

    for machine in ["lead", "w1"] {
        machines.run(machine, &["daemon", "start"]).expect_success();
    }
    // The registry may be a moment behind the daemons.
    eventually(SOON, "a command on the worker", || {
        (machines.echo("lead", "w1").out() == "ran\n").then_some(())
    });
    assert_eq!(machines.echo("lead", "w1.example").expect_success().out(), "ran\n");
    let peers = machines.run("carol", &["peers", "--json"]).expect_success().out();
    assert!(peers.contains("\"w1\""), "{peers}");
    assert_eq!(machines.listed("bob")[0]["state"], "revoked");

    // The leader makes what the fleet lacks, and everybody hears of it. What was vouched for is vouched for still.
    let newest = eventually(SOON, "the worker to hear the leader's account", || {
        let newest = fs::read_to_string(machines.home("w1").join("state/account.jwt")).unwrap();
        let newest = Account::read(newest.trim(), &lead.fleet).unwrap();
        newest.vouching.contains_key(&Standing::Gateway).then_some(newest)
    });
    assert!(account.vouching.iter().all(|(standing, key)| newest.vouching.get(standing) == Some(key)));
    assert_eq!(newest.revoked, account.revoked);
    assert!(keys.join("vouches-for-gateways.nk").exists());
    machines.join("gate", &["--gateway", "web"]);
    let web = machines.identity("gate", "web");
    eventually(SOON, "the server to let the gateway in", || machines.try_connect(&web).ok());

    let invitation = fs::read_to_string(machines.home("lead").join("../invitation")).unwrap();
    machines.run("later", &["join", invitation.trim(), "--nats", &machines.url()]).expect_success();
    assert_eq!(machines.echo("lead", "later").expect_success().out(), "ran\n");
    assert_eq!(machines.echo("lead", "w1").expect_success().out(), "ran\n");
}
