//! What others have heard of a log cannot be undone on its machine.

use std::fs;

use serde_json::Value;

use crate::audit::bench::{SOON, expect_sound, folder, run_one};
use crate::harness::fleet::Fleet;
use crate::harness::wait::eventually;

/// How far w1's log went, as the leader knows.
fn heard(fleet: &Fleet) -> Option<u64> {
    let shown = fleet.d(["peer", "show", "w1", "--json"]);
    let row: Value = serde_json::from_str(&shown.out()).ok()?;
    row["audit"]["seq"].as_u64()
}

#[test]
fn a_log_that_is_begun_anew_is_shorter_than_the_leader_knows() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    let daemon = fleet.daemon("w1");
    for _ in 0..3 {
        run_one(&fleet);
    }
    eventually(SOON, "the leader to hear of it", || heard(&fleet).filter(|seq| *seq >= 8));
    let sound = fleet.d(["audit", "verify", "w1"]).expect_success();
    assert!(!sound.err().contains("not compared"), "{sound:?}");
    daemon.kill9();
    fs::remove_dir_all(folder(&fleet)).unwrap();
    fs::remove_file(folder(&fleet).with_file_name("audit.head")).unwrap();
    daemon.start();
    daemon.wait_until_ready();
    run_one(&fleet);
    // On that machine there is nothing to be seen.
    expect_sound(&fleet);
    let broken = fleet.d(["audit", "verify", "w1"]).expect_code(1);
    assert!(broken.out().contains("which the leader knows of"), "{broken:?}");
    assert!(heard(&fleet) >= Some(8), "what was heard stays");
    // It is forgotten with the peer.
    fleet.d(["peer", "rm", "w1", "--force"]).expect_success();
    eventually(SOON, "the leader to hear of it anew", || heard(&fleet).filter(|seq| *seq < 8));
    fleet.d(["audit", "verify", "w1"]).expect_success();
}
