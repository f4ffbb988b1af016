//! Large transfers over links that do not hold.

use std::time::Duration;

use crate::bench::{SOON, exec, sequence, with_links};
use crate::harness::child::Live;
use crate::harness::relay::{Direction, Relay};

/// Cuts a link when so many more bytes have passed in a direction.
type Cut<'a> = (&'a Relay, Direction, u64);

/// Cuts links one after the other while what `begin` starts is under way. Each is to be cut before anything can flow:
/// before it begins, or before the one before heals. Otherwise all could be through before.
#[track_caller]
fn cut_in_turn(cuts: &[Cut], begin: impl FnOnce() -> Live) -> Live {
    let (first, direction, bytes) = cuts[0];
    first.cut_after(direction, bytes);
    let live = begin();
    for (index, (relay, ..)) in cuts.iter().enumerate() {
        relay.wait_until_cut(SOON);
        match cuts.get(index + 1) {
            Some((next, direction, bytes)) if std::ptr::eq(*next, *relay) => {
                relay.heal_and_cut_after(*direction, *bytes);
            }
            Some((next, direction, bytes)) => {
                next.cut_after(*direction, *bytes);
                relay.heal();
            }
            None => relay.heal(),
        }
    }
    live
}

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
    let links = [(fleet.client_relay(), Direction::ToClient), (daemon.relay(), Direction::ToServer)];
    let cuts: [Cut; 10] = std::array::from_fn(|_| {
        let (relay, direction) = links[usize::from(random(2) == 1)];
        (relay, direction, 1_000_000 + random(2_500_000))
    });
    let mut live = cut_in_turn(&cuts, || exec(&fleet, &line).count_output().spawn());
    let cuts = cuts.map(|(_, direction, after)| (direction, after));
    let finished = live.wait(Duration::from_secs(300)).expect_code(3);
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
    let cuts = [
        (fleet.client_relay(), Direction::ToServer, 2_000_001),
        (daemon.relay(), Direction::ToClient, 1_500_007),
        (daemon.relay(), Direction::ToServer, 2_003),
        (fleet.client_relay(), Direction::ToClient, 2_009),
        (fleet.client_relay(), Direction::ToServer, 1_000_003),
    ];
    let mut live = cut_in_turn(&cuts, || fleet.command(arguments).input(bytes.clone()).spawn());
    let finished = live.wait(SOON).expect_success();
    assert_eq!(finished.out().trim(), bytes.len().to_string());
    assert!(std::fs::read(fleet.path().join("got")).unwrap() == bytes, "what arrived differs");
}
