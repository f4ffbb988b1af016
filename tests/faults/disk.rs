//! Disks that are full, and state directories that disappear.

use std::fs;

use crate::bench::{
    SOON, WAITING, exec, job_id, journalled, kept, lines, plain, refusal, request, wait_until_ran,
};
use crate::harness::disk::SmallDisk;
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::wait::eventually;

/// How many records the journal keeps for a full disk.
const SPARES: usize = 64;

/// A worker whose state directory is a disk of its own, with its reserve.
fn on_a_small_disk(options: DaemonOptions) -> (Fleet, SmallDisk) {
    let fleet = Fleet::builder().start();
    let disk = SmallDisk::at(&fleet.directory("state-w1"));
    fleet.add(options);
    wait_for_reserve(&fleet);
    (fleet, disk)
}

fn wait_for_reserve(fleet: &Fleet) {
    let whole = || (journalled(fleet, "spare").len() == SPARES).then_some(());
    eventually(SOON, "the reserve to be whole", whole);
}

/// Who wants to make room does that with a command, which has to be noted first: once, as ever.
#[test]
fn on_a_full_disk_commands_in_the_foreground_run_on_the_reserve() {
    let (fleet, disk) = on_a_small_disk(DaemonOptions::worker("w1"));
    let mut raw = Raw::connect(&fleet.url());
    disk.fill();
    let id = job_id();
    let first = request(&fleet, &id, "echo ran >> once; exit 3").to_string();
    for _ in 0..2 {
        let answer = raw.request("exec.w1", &first, SOON).json();
        assert_eq!(answer["ending"]["exited"]["code"], 3, "{answer}");
    }
    // A daemon that ends here has a successor that knows what ran.
    let daemon = fleet.daemon("w1");
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    assert_eq!(raw.request("exec.w1", &first, SOON).json()["ending"]["exited"]["code"], 3);
    assert_eq!(lines(&fleet.path().join("once")), 1);
    // What goes on without its caller needs more room than a record.
    let refused = fleet.command(["exec", "-d", "w1", "-C", "/", "--", "true"]).run().expect_code(250);
    assert!(refused.err().contains("its disk is full"), "{refused:?}");
    let said = fleet.command(["doctor", "w1"]).run();
    assert!(said.out().contains("of 64 records are left in the reserve for a full disk"), "{said:?}");

    let place = fleet.directory("state-w1");
    let make_room = format!("rm {0}/filling {0}/filling-more", place.display());
    exec(&fleet, &make_room).run().expect_success();
    wait_for_reserve(&fleet);
    fleet.command(["exec", "-d", "w1", "-C", "/", "--", "true"]).run().expect_success();
}

/// A refusal that could not be written down is remembered, and runs nothing.
#[test]
fn what_a_full_disk_refuses_takes_no_place() {
    let (fleet, disk) = on_a_small_disk(DaemonOptions::worker("w1").configuration("[jobs]\nmost = 2\n"));
    disk.fill();
    for _ in 0..4 {
        let refused = fleet.command(["exec", "-d", "w1", "-C", "/", "--", "true"]).run().expect_code(250);
        assert!(refused.err().contains("its disk is full"), "{refused:?}");
    }
    let mut raw = Raw::connect(&fleet.url());
    assert_eq!(raw.request("exec.w1.ping", "", SOON).json()["jobs"], 0);
    let begin = std::time::Instant::now();
    fleet.daemon("w1").terminate().expect_success();
    assert!(
        begin.elapsed() < std::time::Duration::from_secs(4),
        "it waits for nothing: {:?}",
        begin.elapsed()
    );
}

/// Nothing that a start writes is worth more than a peer by which room can be made.
#[test]
fn a_daemon_starts_on_a_full_disk() {
    let (fleet, disk) = on_a_small_disk(DaemonOptions::worker("w1"));
    let daemon = fleet.daemon("w1");
    daemon.terminate().expect_success();
    disk.fill();
    daemon.restart();
    assert_eq!(plain(&fleet, "echo on").json()["stdout"], "on\n");
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    assert_eq!(plain(&fleet, "echo on").json()["stdout"], "on\n");
    let state = fs::read(daemon.state_directory().join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(
        (state["state"].as_str(), state["process"]["pid"].as_i64()),
        (Some("ready"), Some(i64::from(daemon.pid())))
    );
    // Another one is told who has it.
    let directory = daemon.state_directory();
    let second =
        ["daemon", "run", "--id", "w2", "--role", "worker", "--state-dir", directory.to_str().unwrap()];
    let held = fleet.command(second).run().expect_code(75);
    assert!(held.err().contains(&format!("process {}", daemon.pid())), "{held:?}");
}

#[test]
fn a_full_disk_without_a_reserve_refuses_new_jobs_and_loses_no_ending() {
    let (fleet, disk) = on_a_small_disk(DaemonOptions::worker("w1"));
    let daemon = fleet.daemon("w1");
    let mut running = exec(&fleet, &format!("{WAITING}; echo over; exit 6")).spawn();
    wait_until_ran(&fleet);
    disk.fill();
    fs::remove_dir_all(daemon.state_directory().join("journal/spare")).unwrap();
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

/// What it knew of jobs that ran is gone, and the lock with it: it does not go on as if nothing had happened.
#[test]
fn a_daemon_whose_state_directory_disappears_says_so_and_ends() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let mut running = exec(&fleet, &format!("{WAITING}; echo over; exit 6")).spawn();
    wait_until_ran(&fleet);
    fs::remove_dir_all(daemon.state_directory()).unwrap();
    fs::write(fleet.path().join("go"), "").unwrap();
    assert_eq!(running.wait(SOON).expect_code(6).out(), "over\n");
    let ended = daemon.wait_for_end(SOON).expect_code(1);
    assert!(ended.err().contains("was removed or replaced while the daemon used it"), "{ended:?}");
    assert!(!daemon.state_directory().exists(), "nothing of it was made again");
    // Another start begins anew.
    daemon.restart();
    assert_eq!(plain(&fleet, "echo on").json()["stdout"], "on\n");
}
