//! Daemons that are killed, and disks that are full.

use std::fs;

use serde_json::json;

use crate::audit::bench::{SOON, about, ask, events, expect_sound, folder, job_id, lines, run_one};
use crate::harness::disk::SmallDisk;
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::wait::eventually;

#[test]
fn a_job_of_a_daemon_that_was_killed_has_its_begin_and_its_end() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let job = job_id();
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    raw.subscribe(&inbox);
    let ran = fleet.path().join("ran");
    let line = format!("touch {}; sleep 1000", ran.display());
    let request = json!({ "id": job, "shell_cmd": line, "directory": "/", "from": "ann@desk" });
    raw.publish_reply("exec.w1", &inbox, request.to_string());
    eventually(SOON, "the command to run", || ran.exists().then_some(()));
    daemon.kill9();
    // Before anything could be mended.
    let text = fs::read_to_string(folder(&fleet).join("00000000000000000001.jsonl")).unwrap();
    assert!(text.contains(&job) && text.contains(r#""event":"begun""#), "{text}");
    expect_sound(&fleet);
    daemon.start();
    daemon.wait_until_ready();
    let said = about(&fleet, &job);
    assert_eq!(events(&said), ["begun", "ended"]);
    assert_eq!((&said[1]["from"], &said[1]["command"]), (&json!("ann@desk"), &json!(line)));
    assert!(said[1]["ending"]["unknown"]["why"].as_str().unwrap().contains("its daemon died"), "{}", said[1]);
    assert_eq!(said[1]["out"], json!(null));
    expect_sound(&fleet);
}

#[test]
fn what_is_left_by_a_daemon_killed_at_any_moment_is_sound() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    for round in 1..=5 {
        let mut raw = Raw::connect(&fleet.url());
        let inbox = raw.new_inbox();
        let sid = raw.subscribe(&inbox);
        for _ in 0..100 {
            let request = json!({ "id": job_id(), "argv": ["true"], "directory": "/" });
            raw.publish_reply("exec.w1", &inbox, request.to_string());
        }
        for _ in 0..round * 7 {
            raw.expect_on(sid, SOON, "an answer");
        }
        daemon.kill9();
        expect_sound(&fleet);
        daemon.start();
        daemon.wait_until_ready();
        expect_sound(&fleet);
    }
    let shown = lines(&fleet, &[]);
    let ended: Vec<_> =
        shown.iter().filter(|line| line["event"] == "ended").map(|line| &line["job"]).collect();
    for begun in shown.iter().filter(|line| line["event"] == "begun") {
        assert!(ended.contains(&&begun["job"]), "{begun} has no end");
    }
}

/// A fleet whose w1 keeps its audit log on a small disk.
fn on_a_small_disk(configuration: &str) -> (Fleet, SmallDisk) {
    let fleet = Fleet::builder().start();
    let disk = SmallDisk::at(&fleet.directory("state-w1/audit"));
    fleet.add(DaemonOptions::worker("w1").configuration(configuration));
    (fleet, disk)
}

#[test]
fn a_full_disk_stops_no_job_and_leaves_a_gap_that_is_told() {
    let (fleet, disk) = on_a_small_disk("");
    run_one(&fleet);
    disk.fill();
    for _ in 0..2 {
        // Longer than what may be left of the file's last block.
        let (_, answer) = ask(&fleet, json!({ "argv": ["true", "x".repeat(5_000)], "directory": "/" }));
        assert_eq!(answer.json()["ending"]["exited"]["code"], 0, "{answer:?}");
    }
    let daemon = fleet.daemon("w1");
    daemon.wait_for_line(SOON, |line| {
        line.contains("the audit log cannot be written") && line.contains("No space")
    });
    expect_sound(&fleet);
    disk.free();
    let after = run_one(&fleet);
    let shown = lines(&fleet, &[]);
    // A gap is told as soon as a line has room again, and one of a gap is short.
    let gaps: Vec<_> = shown.iter().filter(|line| line["event"] == "gap").collect();
    assert_eq!(gaps.iter().map(|gap| gap["lost"].as_u64().unwrap()).sum::<u64>(), 4, "{gaps:?}");
    assert!(gaps[0]["why"].as_str().unwrap().contains("No space"), "{gaps:?}");
    assert_eq!(about(&fleet, &after).len(), 2);
    assert!(expect_sound(&fleet).out().contains("could not be written"));
    daemon.restart();
    expect_sound(&fleet);
    daemon.terminate().expect_success();
}

#[test]
fn where_the_log_is_required_a_full_disk_refuses_jobs() {
    let (fleet, disk) = on_a_small_disk("audit = 'required'\n");
    run_one(&fleet);
    disk.fill();
    let ran = fleet.path().join("ran");
    let request = json!({ "argv": ["touch", ran, "x".repeat(5_000)], "directory": "/" });
    let (job, answer) = ask(&fleet, request.clone());
    let ending = &answer.json()["ending"]["refused"];
    assert_eq!(ending["why"], "journal", "{answer:?}");
    assert!(ending["message"].as_str().unwrap().contains("audit = \"required\""), "{answer:?}");
    disk.free();
    // Its caller was told that it does not run; so a repeat does not run either.
    let mut repeat = request;
    repeat["id"] = json!(job);
    let again = Raw::connect(&fleet.url()).request("exec.w1", repeat.to_string(), SOON);
    assert_eq!(again.json()["ending"]["refused"]["why"], "journal", "{again:?}");
    assert!(!ran.exists());
    run_one(&fleet);
    expect_sound(&fleet);
    fleet.daemon("w1").terminate().expect_success();
}
