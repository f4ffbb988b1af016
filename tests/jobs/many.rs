//! More than a thousand jobs in the journal, listed in pages.

use std::collections::BTreeSet;

use serde_json::json;

use crate::bench::{SOON, ids, job_id, listed};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::server::ServerOptions;

/// What the server of these tests takes: a page of all jobs is much longer.
const MAX_PAYLOAD: usize = 32 << 10;

#[test]
fn more_than_a_thousand_jobs_are_listed_in_pages() {
    let many = DaemonOptions::worker("w1").configuration("max_jobs = 2000\n");
    let fleet = Fleet::builder().server(ServerOptions::new().max_payload(MAX_PAYLOAD)).daemon(many).start();
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    let sid = raw.subscribe(&inbox);
    let jobs: BTreeSet<String> = (0..1_003).map(|_| job_id()).collect();
    for job in &jobs {
        let request = json!({ "id": job, "argv": ["true", "x".repeat(200)], "directory": "/" });
        raw.publish_reply("exec.w1", &inbox, request.to_string());
    }
    for _ in &jobs {
        let answer = raw.expect_on(sid, 4 * SOON, "an answer");
        assert_eq!(answer.json()["ending"]["exited"]["code"], 0, "{answer:?}");
    }
    let newest_first: Vec<&str> = jobs.iter().rev().map(String::as_str).collect();
    let mut page = |query: serde_json::Value| raw.request("exec.w1.jobs", query.to_string(), SOON);

    // As many as are asked for, or as fit.
    let mut seen = Vec::new();
    let mut after = json!(null);
    loop {
        let answer = page(json!({ "state": "all", "limit": 30, "after": after })).json();
        let jobs = answer["jobs"].as_array().unwrap();
        assert!((1..=30).contains(&jobs.len()), "{} jobs", jobs.len());
        seen.extend(jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        after = answer["next"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!(seen, newest_first);
    let answer = page(json!({ "state": "all" }));
    assert!(answer.payload.len() <= MAX_PAYLOAD, "{} bytes", answer.payload.len());
    let count = answer.json()["jobs"].as_array().unwrap().len();
    assert!((20..200).contains(&count) && answer.json()["next"].is_string(), "{count} jobs");

    assert_eq!(ids(&listed(&fleet, &["w1", "-a"])), newest_first);
    assert_eq!(ids(&listed(&fleet, &["w1", "-a", "-n", "300"])), newest_first[..300]);
    // More than any one page may have.
    assert_eq!(ids(&listed(&fleet, &["w1", "-a", "-n", "1002"])), newest_first[..1_002]);
    assert_eq!(listed(&fleet, &["w1"]).len(), 0);
    // What is wrong with a question is said.
    for (query, said) in [(json!({ "limit": 0 }), "`limit`"), (json!({ "state": "dead" }), "`state`")] {
        let refused = page(query);
        assert_eq!(refused.header("Nats-Service-Error"), Some("bad_request"), "{refused:?}");
        assert!(refused.json()["message"].as_str().unwrap().contains(said), "{refused:?}");
    }
}
