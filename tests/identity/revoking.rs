//! Taking an identity back: at once, for good, and for those too who were away.

use std::time::Duration;

use peerbus::identity::IdentityFile;

use crate::harness::wait::{eventually, never};
use crate::machines::{Machines, SOON, refused};

/// Long enough for a leader to have told what it has to tell.
const A_WHILE: Duration = Duration::from_secs(2);

/// Whether the account that a machine's daemon keeps has somebody revoked.
fn has_heard(machines: &Machines, machine: &str, whom: &IdentityFile) -> bool {
    Machines::has_heard_in(&machines.home(machine).join("state"), whom)
}

#[test]
fn whoever_is_revoked_is_cut_off_at_once_and_stays_out() {
    let machines = Machines::with_a_fleet();
    machines.join("vps", &["vps"]);
    machines.join("desk", &["--operator", "bob"]);
    let bob = machines.identity("desk", "bob");
    let mut connected = machines.try_connect(&bob).unwrap();
    assert_eq!(machines.echo("desk", "vps").expect_success().out(), "ran\n");
    let done = machines.run("lead", &["revoke", "bob"]).expect_success();
    assert_eq!(done.out(), "revoked bob: the server has dropped its connections, and the fleet was told\n");
    // The connection was cut before `d revoke` came back.
    assert!(connected.try_barrier(SOON).is_err() || !connected.errors.is_empty());
    let refusal = machines.echo("desk", "vps");
    refused(&refusal, 255, &["the identity of bob was revoked"]);
    let doctor = machines.run("desk", &["doctor"]).expect_code(1).out();
    assert!(
        doctor.contains("does not let this identity in") && !doctor.contains("is the network up"),
        "{doctor}"
    );
    eventually(SOON, "the peer to have heard", || has_heard(&machines, "vps", &bob).then_some(()));
    let listed = machines.listed("bob").pop().unwrap();
    assert_eq!(listed["state"], "revoked");
    assert!(listed["revoked"].is_string());
    // Neither a new server nor a new leader has forgotten it.
    machines.run("lead", &["daemon", "restart"]).expect_success();
    assert!(machines.try_connect(&bob).is_err(), "a restart brought somebody back");
    machines.run("vps", &["daemon", "restart"]).expect_success();
    assert!(has_heard(&machines, "vps", &bob));
    // The name is free for another key.
    machines.join("desk2", &["--operator", "bob"]);
    assert_eq!(machines.echo("desk2", "vps").expect_success().out(), "ran\n");
    assert!(machines.try_connect(&bob).is_err());
}

#[test]
fn what_somebody_has_left_running_is_shown_and_can_be_stopped() {
    let machines = Machines::with_a_fleet();
    machines.join("vps", &["vps"]);
    machines.join("desk", &["--operator", "bob"]);
    let started = machines.run("desk", &["exec", "-d", "vps", "-C", "/", "--", "sleep", "1000"]);
    let id = started.expect_success().out().trim().to_owned();
    let shown = machines.run("lead", &["revoke", "bob"]).expect_success();
    let job = format!("vps/{}  sleep 1000", &id[id.len() - 8..]);
    assert!(shown.out().contains(&format!("still runs: {job}")), "{shown:?}");
    assert!(shown.err().contains("`d revoke bob --stop-jobs`"), "{shown:?}");
    let stopped = machines.run("lead", &["revoke", "bob", "--stop-jobs"]).expect_success();
    assert!(stopped.out().contains(&format!("stopped: {job}")), "{stopped:?}");
    let running = machines.run("lead", &["jobs", "vps", "--json"]).expect_success();
    assert!(!running.out().contains(&id), "{running:?}");
}

#[test]
fn a_machine_that_is_revoked_is_out_and_the_one_with_the_keys_cannot_be() {
    let machines = Machines::with_a_fleet();
    machines.join("vps", &["vps"]);
    refused(&machines.run("lead", &["revoke", "lead"]), 2, &["lead is this machine", "keys"]);
    refused(&machines.run("lead", &["revoke", "nobody"]), 2, &["nobody is called nobody"]);
    refused(&machines.run("vps", &["revoke", "lead"]), 1, &["there are no keys of a fleet", "first machine"]);
    machines.run("lead", &["revoke", "vps"]).expect_success();
    let ran = machines.echo("lead", "vps");
    assert_eq!(ran.code(), Some(253), "{}", ran.err());
    let status = eventually(SOON, "the daemon to be let in no more", || {
        let status = machines.run("vps", &["daemon", "status"]);
        status.out().to_lowercase().contains("authori").then_some(status)
    });
    assert!(status.code() == Some(1) && status.out().contains("off the bus: "), "{status:?}");
    machines.run("vps", &["join", &machines.invite(&["vps"])]).expect_success();
    assert_eq!(machines.echo("lead", "vps").expect_success().out(), "ran\n");
}

#[test]
fn what_could_not_be_told_is_told_as_soon_as_it_can_be() {
    let machines = Machines::with_a_fleet();
    machines.join("vps", &["vps"]);
    machines.join("desk", &["--operator", "bob"]);
    let bob = machines.identity("desk", "bob");
    machines.run("lead", &["daemon", "stop"]).expect_success();
    let alone = machines.run("lead", &["revoke", "bob"]);
    refused(&alone, 255, &["bob is revoked in the fleet's books", "was not told", "as soon as it can"]);
    assert!(!has_heard(&machines, "vps", &bob));
    machines.run("lead", &["daemon", "start"]).expect_success();
    assert!(machines.try_connect(&bob).is_err());
    eventually(SOON, "the peer to have heard", || has_heard(&machines, "vps", &bob).then_some(()));
}

#[test]
fn a_peer_that_was_away_hears_it_before_anything_else() {
    let machines = Machines::with_a_fleet();
    machines.join("vps", &["vps"]);
    machines.join("desk", &["--operator", "bob"]);
    let bob = machines.identity("desk", "bob");
    machines.run("vps", &["daemon", "stop"]).expect_success();
    machines.run("lead", &["revoke", "bob"]).expect_success();
    never(A_WHILE, "a daemon that does not run hears nothing", || {
        has_heard(&machines, "vps", &bob).then_some("heard")
    });
    machines.run("vps", &["daemon", "start"]).expect_success();
    // It is asked for before the daemon is ready, so there is nothing to wait for but the file.
    eventually(SOON, "the account to be kept", || has_heard(&machines, "vps", &bob).then_some(()));
    assert_eq!(machines.echo("lead", "vps").expect_success().out(), "ran\n");
}

#[test]
fn an_open_invitation_is_taken_back_by_its_name() {
    let machines = Machines::with_a_fleet();
    let token = machines.invite(&["vps"]);
    assert_eq!(machines.listed("vps").pop().unwrap()["state"], "invited");
    machines.run("lead", &["revoke", "vps"]).expect_success();
    assert_eq!(machines.listed("vps").pop().unwrap()["state"], "invitation revoked");
    refused(&machines.run("vps", &["join", &token]), 250, &["it was revoked"]);
    assert!(!machines.creds("vps", "vps").exists());
}
