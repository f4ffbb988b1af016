//! File systems that never answer. A process that waits for one hangs in the kernel, and KILL does not end it.
//! Only root may mount one: `tests/wants_root` names these tests.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bench::SOON;
use crate::harness::dead_mount::DeadMount;
use crate::harness::fleet::Fleet;
use crate::harness::procs;
use crate::harness::wait::eventually;

/// TERM, KILL, and what the daemon waits after each.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// Whether a signal waits for a process to come back from the kernel.
fn is_pending(pid: i32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let sets =
        status.lines().filter_map(|line| line.strip_prefix("ShdPnd:").or(line.strip_prefix("SigPnd:")));
    sets.filter_map(|set| u64::from_str_radix(set.trim(), 16).ok())
        .any(|set| set >> (signal as u32 - 1) & 1 == 1)
}

#[test]
fn a_command_that_hangs_in_the_kernel_is_named_and_left() {
    let fleet = Fleet::of_workers(["w1"]);
    let dead = DeadMount::at(&fleet.path().join("dead"));
    let hanging = |flags: &[&str]| {
        let marker = procs::marker();
        let path = dead.path().with_file_name(&marker).display().to_string();
        let words = [&["exec", "w1", "-C", "/"], flags, &["--", "cat", &path]].concat();
        let live = fleet.command(words).in_directory(fleet.path()).spawn();
        let pid = procs::wait_until_running(&path, 1, SOON)[0].pid;
        (live, pid)
    };
    let (timed_out, _) = hanging(&["--timeout", "1s", "--report", "report.json"]);
    let (durable, _) = hanging(&["--timeout", "1s", "--durable"]);
    let (interrupted, pid) = hanging(&[]);
    interrupted.signal(Signal::SIGINT);
    // Two signals at once would be one to whoever receives them.
    eventually(SOON, "the interrupt to be pending", || is_pending(pid, Signal::SIGINT).then_some(()));
    interrupted.signal(Signal::SIGINT);
    let (mut background, _) = hanging(&["-d"]);
    let job = background.wait(SOON).expect_success().out();
    let mut stop = fleet.command(["stop", &format!("w1/{}", job.trim())]).deadline(STOPPED_WITHIN).spawn();
    for (mut live, code) in [(timed_out, 252), (durable, 252), (interrupted, 251)] {
        let finished = live.wait(STOPPED_WITHIN).expect_code(code);
        let said = finished.err();
        assert!(said.contains("cat (pid ") && said.contains("hangs in the kernel"), "{finished:?}");
        assert!(!said.contains("with all it had started"), "{finished:?}");
    }
    let stopped = stop.wait(STOPPED_WITHIN).expect_success();
    assert!(stopped.out().contains("hangs in the kernel"), "{stopped:?}");
    let report = std::fs::read(fleet.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["result"]["hung"][0]["program"], "cat", "{report}");
    // Everything else goes on, and the daemon ends when it is asked to.
    fleet.d(["exec", "w1", "-C", "/", "--", "true"]).expect_success();
    fleet.daemon("w1").terminate();
}

#[test]
fn what_cannot_be_looked_up_is_not_started_and_holds_up_nobody() {
    let fleet = Fleet::of_workers(["w1"]);
    let dead = DeadMount::at(&fleet.path().join("dead"));
    let path = dead.path().display().to_string();
    let in_path = format!("PATH={path}:/usr/bin:/bin");
    let marker = procs::marker();
    let line = format!("echo ran {marker}");
    for words in [
        &["-C", &path, "--timeout", "1s", "--", "true"][..],
        &["-C", "/", "--timeout", "1s", "--", &format!("{path}/program")],
        &["-C", "/", "--timeout", "1s", "--env", &in_path, "--sh", &line],
        &["-C", &path, "--timeout", "1s", "--durable", "--", "true"],
    ] {
        let finished = fleet.command(["exec", "w1"].iter().chain(words)).deadline(SOON).run();
        let said = finished.err();
        assert!(said.contains("not started") && said.contains("does not answer"), "{finished:?}");
        assert_eq!(finished.out(), "", "{finished:?}");
    }
    // One whose caller waits longer hangs while the daemon is asked to stop.
    let mut hangs = fleet.spawn_d(["exec", "w1", "-C", &path, "--", "true"]);
    fleet.d(["exec", "w1", "-C", "/", "--", "true"]).expect_success();
    fleet.daemon("w1").terminate();
    hangs.wait(STOPPED_WITHIN);
}
