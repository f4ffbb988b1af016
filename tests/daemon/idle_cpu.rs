//! Whoever waits does nothing meanwhile: no processor time, no lines in the log.

use std::time::Duration;

use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::procs;

/// Far more than waiting costs, far less than a loop that does not wait.
const IDLE: Duration = Duration::from_millis(1500);

/// A command that ignores TERM, so that stopping it takes five seconds.
const STUBBORN: &str = "trap '' TERM; sleep 100; sleep 100";

#[test]
fn d_waits_for_its_pager_without_turning_in_circles() {
    let fleet = Fleet::of_workers(["w1"]);
    let run = fleet.command(["exec", "w1", "-C", "/", "--", "head", "-c", "500000", "/dev/zero"]);
    let mut d = run.paused_output().spawn();
    // Longer than a peer may be silent.
    std::thread::sleep(Duration::from_secs(18));
    let used = procs::processor_time(d.pid());
    assert!(used < IDLE, "{used:?}");
    d.kill();
}

#[test]
fn a_vanished_caller_is_given_up_once() {
    let patient = DaemonOptions::worker("w1").configuration("caller_grace = '1s'\n");
    let fleet = Fleet::builder().daemon(patient).start();
    let daemon = fleet.daemon("w1");
    let marker = procs::marker();
    let line = format!("{STUBBORN} # {marker}");
    let mut d = fleet.spawn_d(["exec", "w1", "-C", "/", "--sh", line.as_str()]);
    procs::wait_until_running(&marker, 1, Duration::from_secs(30));
    d.kill();
    daemon.wait_for_line(Duration::from_secs(60), |line| line.contains("ended job="));
    assert_eq!(daemon.stderr().matches("its caller vanished and did not come back").count(), 1);
    let used = procs::processor_time(daemon.pid());
    assert!(used < IDLE, "{used:?}");
}

#[test]
fn a_command_that_ran_out_of_time_is_waited_for() {
    let fleet = Fleet::of_workers(["w1"]);
    fleet.d(["exec", "w1", "-C", "/", "--timeout", "1s", "--sh", STUBBORN]).expect_code(252);
    let used = procs::processor_time(fleet.daemon("w1").pid());
    assert!(used < IDLE, "{used:?}");
}
