//! Large transfers over links that do not hold.

use std::time::Duration;

use crate::bench::{SOON, exec, sequence, with_links};
use crate::harness::relay::Direction;

/// Numbers that differ from run to run; a failing test says where it cut.
fn random(below: u64) -> u64 {
    u64::from(uuid::Uuid::new_v4().as_fields().0) % below
}

#[test]
fn ten_cuts_at_random_cost_not_a_byte_of_fifty_megabytes() {
    const LAST: u32 = 3_600_000;
    let fleet = with_links();
    let daemon = fleet.daemon("w1");
    let line = format!("seq 1 {LAST} & seq 1 {LAST} >&2 & wait; exit 3");
    let mut live = exec(&fleet, &line).count_output().spawn();
    let mut cuts = Vec::new();
    for _ in 0..10 {
        let after = 1_000_000 + random(2_500_000);
        let (name, relay, direction) = match random(2) {
            0 => ("the caller's", fleet.client_relay(), Direction::ToClient),
            _ => ("the daemon's", daemon.relay(), Direction::ToServer),
        };
        cuts.push((name, after));
        relay.cut_after(direction, after);
        relay.wait_until_cut(SOON);
        relay.heal();
    }
    let finished = live.wait(Duration::from_secs(40)).expect_code(3);
    let wanted = sequence(LAST);
    assert!(wanted.len() > 26 << 20);
    assert_eq!(live.stdout.total(), wanted.len() as u64, "{cuts:?}");
    let digest = blake3::hash(&wanted).to_hex().to_string();
    assert_eq!(
        (live.stdout.digest(), live.stderr.digest()),
        (digest.clone(), digest),
        "{cuts:?}: {finished:?}"
    );
}

#[test]
fn standard_input_arrives_whole_through_cuts() {
    let fleet = with_links();
    let daemon = fleet.daemon("w1");
    let bytes = sequence(2_000_000);
    let directory = fleet.path().to_str().unwrap();
    let arguments = ["exec", "w1", "-C", directory, "-i", "--sh", "cat > got; wc -c < got"];
    let mut live = fleet.command(arguments).input(bytes.clone()).spawn();
    for (relay, direction, after) in [
        (fleet.client_relay(), Direction::ToServer, 2_000_001),
        (daemon.relay(), Direction::ToClient, 1_500_007),
        (daemon.relay(), Direction::ToServer, 2_003),
        (fleet.client_relay(), Direction::ToClient, 2_009),
        (fleet.client_relay(), Direction::ToServer, 1_000_003),
    ] {
        relay.cut_after(direction, after);
        relay.wait_until_cut(SOON);
        relay.heal();
    }
    let finished = live.wait(SOON).expect_success();
    assert_eq!(finished.out().trim(), bytes.len().to_string());
    assert!(std::fs::read(fleet.path().join("got")).unwrap() == bytes, "what arrived differs");
}
