//! Links that are cut or go dead, and servers that are killed, while output flows.

use std::time::Duration;

use crate::bench::{
    SOON, count, exec, expect_every_line, expect_exact, expect_more, half_and_half, job_id, journalled, kept,
    request, sequence, wait_until_ran, with_links,
};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::procs;
use crate::harness::relay::{Direction, Relay};
use crate::harness::wait::eventually;

/// About 10 MB.
const LAST: u32 = 1_500_000;

/// In mid output.
const MIDST: u64 = 3_000_001;

/// How long it may take to notice that a link is dead: nobody is to be suspected early.
const NOTICED: Duration = Duration::from_secs(60);

/// Waits until a link that is to be cut on a byte has been, lets the other end try in vain, and heals it. Whoever calls
/// this has armed the cut before any output began, which may else be through before.
fn heal_once_cut(relay: &Relay) {
    relay.wait_until_cut(SOON);
    relay.wait_for_connections(relay.connections() + 2, SOON);
    relay.heal();
}

#[test]
fn a_server_killed_in_mid_output_costs_no_byte() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut live = exec(&fleet, &format!("seq 1 {LAST}; exit 0")).count_output().spawn();
    live.stdout_reaches(1_000_000, SOON);
    // Nobody reads: so it is in mid output for as long as we like.
    live.stdout.pause();
    fleet.server().kill();
    let refused = |line: &str| line.contains("connecting to the bus at");
    fleet.daemon("w1").wait_for_line(SOON, refused);
    live.stdout.resume();
    fleet.server().restart();
    expect_exact(&mut live, &sequence(LAST), SOON);
    assert!(fleet.daemon("w1").is_running());
}

#[test]
fn a_cut_of_the_daemons_link_costs_no_byte() {
    let fleet = with_links();
    let daemon = fleet.daemon("w1");
    daemon.relay().cut_after(Direction::ToServer, MIDST);
    let mut live = exec(&fleet, &format!("seq 1 {LAST}")).count_output().spawn();
    heal_once_cut(daemon.relay());
    expect_exact(&mut live, &sequence(LAST), SOON);
}

#[test]
fn a_cut_of_the_callers_link_costs_no_byte() {
    let fleet = with_links();
    fleet.client_relay().cut_after(Direction::ToClient, MIDST);
    let mut live = exec(&fleet, &format!("seq 1 {LAST}")).count_output().spawn();
    heal_once_cut(fleet.client_relay());
    expect_exact(&mut live, &sequence(LAST), SOON);
}

#[test]
fn a_cut_of_both_links_costs_no_byte() {
    let fleet = with_links();
    let daemon = fleet.daemon("w1");
    let (near, far) = (fleet.client_relay(), daemon.relay());
    near.cut_after(Direction::ToClient, MIDST);
    let mut live = exec(&fleet, &format!("seq 1 {LAST}; exit 0")).count_output().spawn();
    near.wait_until_cut(SOON);
    far.cut();
    let before = (near.connections(), far.connections());
    near.wait_for_connections(before.0 + 2, SOON);
    far.wait_for_connections(before.1 + 2, SOON);
    near.heal();
    far.heal();
    expect_exact(&mut live, &sequence(LAST), SOON);
}

/// A link that goes dead and comes back before anyone has noticed.
#[test]
fn a_short_silence_of_either_link_costs_nothing() {
    let fleet = with_links();
    let daemon = fleet.daemon("w1");
    let mut live = count(&fleet);
    for relay in [fleet.client_relay(), daemon.relay()] {
        relay.freeze();
        std::thread::sleep(Duration::from_secs(2));
        relay.heal();
        expect_more(&mut live);
    }
    expect_every_line(&fleet, &mut live);
    assert_eq!((fleet.client_relay().connections(), daemon.relay().connections()), (1, 1));
}

const LOST: &str = "lost the connection to the bus";

#[test]
fn a_dead_link_of_the_caller_is_replaced() {
    let fleet = with_links();
    let mut live = half_and_half(|line| exec(&fleet, line).env("PEERBUS_LOG", "warn"));
    fleet.client_relay().freeze();
    // It probes the path, gives the connection up, and tries another.
    live.stderr_line(NOTICED, |line| line.contains(LOST));
    let id = journalled(&fleet, "open").pop().unwrap();
    // What the command says now has no way to it.
    std::fs::write(fleet.path().join("go"), "").unwrap();
    procs::wait_until_job_gone(&id, SOON);
    fleet.client_relay().heal();
    expect_exact(&mut live, &sequence(10_000), SOON);
}

#[test]
fn a_dead_link_of_the_daemon_is_replaced() {
    let fleet = with_links();
    let daemon = fleet.daemon("w1");
    let mut live = count(&fleet);
    daemon.relay().freeze();
    daemon.wait_for_line(NOTICED, |line| line.contains(LOST));
    daemon.relay().heal();
    expect_more(&mut live);
    expect_every_line(&fleet, &mut live);
}

#[test]
fn a_broker_that_restarts_again_and_again_stops_no_job() {
    let fleet = Fleet::of_workers(["w1"]);
    let id = job_id();
    let mut live = count(&fleet);
    // A plain request, too, whose requester has no patience for restarts.
    let line = crate::bench::WAITING;
    Raw::connect(&fleet.url()).publish_reply(
        "exec.w1",
        "_INBOX.gone.1",
        request(&fleet, &id, &format!("{line}; echo over")).to_string(),
    );
    wait_until_ran(&fleet);
    for _ in 0..3 {
        fleet.server().restart();
        expect_more(&mut live);
    }
    expect_every_line(&fleet, &mut live);
    std::fs::write(fleet.path().join("go"), "").unwrap();
    let result = eventually(SOON, "the plain request to end", || {
        let answer = kept(&fleet, &id);
        (!answer.is_no_responders()).then_some(answer)
    });
    assert_eq!(result.json()["stdout"], "over\n", "{result:?}");
}

#[test]
fn a_daemon_started_before_its_server_comes_up_with_it() {
    let fleet = Fleet::builder().start();
    fleet.server().kill();
    let daemon = fleet.add_starting(DaemonOptions::worker("w1"));
    daemon.wait_for_line(SOON, |line| line.contains("connecting to the bus at"));
    assert!(!daemon.stderr().contains("ready peer"));
    let state = || {
        let text = std::fs::read(daemon.state_directory().join("state.json")).ok()?;
        serde_json::from_slice::<serde_json::Value>(&text).ok()
    };
    eventually(SOON, "the state file to say what it waits for", || {
        let state = state()?;
        let reason = state["state_reason"].as_str()?.to_owned();
        (state["state"] == "starting" && reason.contains("connecting to the bus")).then_some(())
    });
    fleet.server().restart();
    daemon.wait_until_ready();
    assert_eq!(exec(&fleet, "echo up").run().expect_success().out(), "up\n");
    assert_eq!(state().unwrap()["state"], "ready");
}
