//! A fleet at rest says nothing.

use std::time::Duration;

use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;

/// Far longer than a heartbeat may be away.
const BEAT: Duration = Duration::from_secs(15);
/// Enough heartbeats to pass a look for others of one's id, which comes every third.
const BEATS: usize = 4;

#[test]
fn a_fleet_at_rest_says_nothing() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    let mut raw = Raw::connect(&fleet.url());
    let beats = raw.subscribe("peers.alive");
    let mut hear = |peer: &str| {
        while raw.expect_on(beats, BEAT, "a heartbeat").json()["peer_id"] != peer {}
    };
    let daemons = ["lead", "w1"].map(|id| fleet.daemon(id));
    let lead = &daemons[0];
    for id in ["lead", "w1"] {
        lead.wait_for_line(BEAT, |line| line.contains(&format!("peer={id}")) && !line.starts_with("ready"));
    }
    // By the next heartbeat of each, what comes with a start has been said.
    hear("lead");
    hear("w1");
    let first = daemons.each_ref().map(|daemon| daemon.stderr());
    for _ in 0..BEATS {
        hear("lead");
        hear("w1");
    }
    assert_eq!(daemons.each_ref().map(|daemon| daemon.stderr()), first);
}
