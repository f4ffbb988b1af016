//! Someone who says as much garbage as the server takes, to everyone.

use std::time::{Duration, Instant};

use crate::harness::nats::Raw;
use crate::talk::{SOON, job_id, one_worker, plain};

#[test]
fn a_flood_of_garbage_leaves_a_daemon_that_works() {
    let fleet = one_worker();
    let mut flood = Raw::connect(&fleet.url());
    let id = job_id();
    let mut subjects: Vec<String> = ["credit", "stdin", "signal", "resume", "cancel", "result", "dance"]
        .iter()
        .map(|verb| format!("exec.w1.{id}.{verb}"))
        .collect();
    subjects.extend(
        [
            "exec.w1",
            "exec.w1.ping",
            "exec.w1.x",
            "exec.w1.x.y.z",
            "peers.alive",
            "$SRV.PING",
            "$SRV.STATS.exec",
            "$SRV.x",
        ]
        .map(str::to_owned),
    );
    let begin = Instant::now();
    let mut said = 0_u32;
    while begin.elapsed() < Duration::from_secs(2) {
        for (index, subject) in subjects.iter().enumerate() {
            let reply = ["_INBOX.nobody.hears", "exec.w1", "", "a.b"][(index + said as usize) % 4];
            let garbage = [&b"\xff\x00garbage"[..], b"{", b"", b"{\"epoch\":-1}", &[b'['; 2000]];
            flood.publish_reply(subject, reply, garbage[(index * 7 + said as usize) % garbage.len()]);
            said += 1;
        }
        // As fast as the server takes it.
        flood.barrier();
    }
    let directory = fleet.path().to_str().unwrap();
    let finished = fleet.d(["exec", "w1", "-C", directory, "--sh", "echo works"]).expect_success();
    assert_eq!(finished.out(), "works\n", "after {said} messages");
    assert!(finished.took < Duration::from_secs(40), "after {said} messages it took {:?}", finished.took);
    let answer =
        Raw::connect(&fleet.url()).request("exec.w1", plain(fleet.path(), "echo too").to_string(), SOON);
    assert_eq!(answer.json()["stdout"], "too\n");
    let alive = flood.request("exec.w1.ping", "", SOON).json();
    assert_eq!(alive["peer_id"], "w1");
}
