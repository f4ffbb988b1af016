//! Disks that are full, and state directories that disappear.

use std::fs;

use crate::bench::{SOON, WAITING, exec, job_id, kept, plain, refusal, request, wait_until_ran};
use crate::harness::disk::SmallDisk;
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::wait::eventually;

#[test]
fn a_full_disk_refuses_new_jobs_and_loses_no_ending() {
    let fleet = Fleet::builder().start();
    let disk = SmallDisk::at(&fleet.directory("state-w1"));
    let daemon = fleet.add(DaemonOptions::worker("w1"));
    let mut running = exec(&fleet, &format!("{WAITING}; echo over; exit 6")).spawn();
    wait_until_ran(&fleet);
    disk.fill();
    let refused = exec(&fleet, "echo ran >> other").run().expect_code(250);
    assert!(refused.err().contains("journal cannot be written"), "{refused:?}");
    assert!(refused.err().contains("No space"), "{refused:?}");
    let id = job_id();
    let late = request(&fleet, &id, "echo ran >> other").to_string();
    let mut raw = Raw::connect(&fleet.url());
    let answer = raw.request("exec.w1", &late, SOON);
    assert_eq!(refusal(&answer).as_deref(), Some("journal"), "{answer:?}");
    assert_eq!(raw.request("exec.w1.ping", "", SOON).json()["state"], "up");
    // What ran already has room for its ending.
    fs::write(fleet.path().join("go"), "").unwrap();
    assert_eq!(running.wait(SOON).expect_code(6).out(), "over\n");
    let ended = eventually(SOON, "its record", || crate::bench::journalled(&fleet, "ended").pop());
    assert_eq!(kept(&fleet, &ended).json()["ending"]["exited"]["code"], 6);

    disk.free();
    assert_eq!(exec(&fleet, "echo room").run().expect_success().out(), "room\n");
    // Its caller was told that it does not run; so a repeat does not run either.
    assert_eq!(refusal(&raw.request("exec.w1", &late, SOON)).as_deref(), Some("journal"));
    assert!(!fleet.path().join("other").exists());
    daemon.restart();
    assert_eq!(plain(&fleet, "echo on").json()["stdout"], "on\n");
    assert_eq!(kept(&fleet, &ended).json()["ending"]["exited"]["code"], 6);
    daemon.terminate().expect_success();
}

#[test]
fn a_state_directory_that_disappears_stops_neither_daemon_nor_job() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let mut running = exec(&fleet, &format!("{WAITING}; echo over; exit 6")).spawn();
    wait_until_ran(&fleet);
    fs::remove_dir_all(daemon.state_directory()).unwrap();
    let refused = exec(&fleet, "echo ran >> other").run().expect_code(250);
    assert!(refused.err().contains("journal cannot be written"), "{refused:?}");
    fs::write(fleet.path().join("go"), "").unwrap();
    assert_eq!(running.wait(SOON).expect_code(6).out(), "over\n");
    assert!(daemon.is_running() && !fleet.path().join("other").exists());
    daemon.terminate().expect_success();
    // Another start begins anew.
    daemon.restart();
    assert_eq!(plain(&fleet, "echo on").json()["stdout"], "on\n");
}
