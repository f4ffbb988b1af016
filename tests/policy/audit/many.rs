//! A thousand requests at once.

use std::collections::BTreeSet;

use serde_json::json;

use crate::audit::bench::{SOON, expect_sound, job_id, lines};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;

#[test]
fn a_thousand_at_once_are_all_there_and_in_order() {
    let many = DaemonOptions::worker("w1").configuration("max_jobs = 1000\n");
    let fleet = Fleet::builder().daemon(many).start();
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    let sid = raw.subscribe(&inbox);
    let jobs: BTreeSet<String> = (0..1_000).map(|_| job_id()).collect();
    for job in &jobs {
        let request = json!({ "id": job, "argv": ["true"], "directory": "/" });
        raw.publish_reply("exec.w1", &inbox, request.to_string());
    }
    for _ in &jobs {
        let answer = raw.expect_on(sid, 4 * SOON, "an answer");
        assert_eq!(answer.json()["ending"]["exited"]["code"], 0, "{answer:?}");
    }
    let shown = lines(&fleet, &[]);
    let numbers: Vec<u64> = shown.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=2_002).collect::<Vec<_>>());
    let mut running = BTreeSet::new();
    let mut ended = BTreeSet::new();
    for line in &shown[2..] {
        let job = line["job"].as_str().unwrap().to_owned();
        match line["event"].as_str().unwrap() {
            "begun" => assert!(running.insert(job), "{line}"),
            "ended" => assert!(running.remove(&job) && ended.insert(job), "{line}"),
            _ => panic!("{line}"),
        }
    }
    assert_eq!(ended, jobs);
    expect_sound(&fleet);
    let verdict = fleet.d(["audit", "verify", "w1"]).expect_success();
    assert!(verdict.out().contains("2002 lines, 1 to 2002"), "{verdict:?}");
}
