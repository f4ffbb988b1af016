//! Shims and reapers that do not answer: whoever wants their jobs to end need not wait for them.

use std::sync::mpsc;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::durable::bench::{SOON, audited, directory, ending, journalled, shim_pid, start};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::procs;
use crate::harness::wait::eventually;

const SLEEPS: &str = "exec sleep 1000";

fn worker(containment: &str) -> Fleet {
    Fleet::builder().daemon(DaemonOptions::worker("w1").env("PEERBUS_CONTAINMENT", containment)).start()
}

/// Holds a process as a debugger does, until it is killed: CONT does not have it go on, so to everybody else it is as
/// one that is lost in itself. Of a process that shows itself to nobody only root can do that.
fn hold(process: i32) {
    let (held, is_held) = mpsc::channel();
    std::thread::spawn(move || {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: both only name a process.
        let (seized, stopped) = unsafe {
            let seized = libc::ptrace(libc::PTRACE_SEIZE, process, nothing, nothing);
            (seized, libc::ptrace(libc::PTRACE_INTERRUPT, process, nothing, nothing))
        };
        held.send((seized, stopped, waitpid(Pid::from_raw(process), Some(WaitPidFlag::__WALL)))).unwrap();
        // It stays held for as long as this thread lives.
        let _ = waitpid(Pid::from_raw(process), Some(WaitPidFlag::__WALL));
    });
    let (seized, stopped, state) = is_held.recv_timeout(SOON).expect("held");
    assert!(seized == 0 && stopped == 0 && state.is_ok(), "process {process}: {seized} {stopped} {state:?}");
}

/// The process that keeps the job's others together.
fn reaper_pid(fleet: &Fleet, id: &str) -> i32 {
    let command = eventually(SOON, "the command to be written down", || {
        let about = std::fs::read(directory(fleet, id).join("shim.json")).ok()?;
        let about: serde_json::Value = serde_json::from_slice(&about).ok()?;
        about["process"]["pid"].as_i64()
    });
    let stat = std::fs::read_to_string(format!("/proc/{command}/stat")).expect("it runs");
    stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().expect("its parent")
}

#[test]
fn stop_wakes_a_shim_and_a_reaper_that_stand_still() {
    let fleet = worker("reaper");
    for pid_of in [shim_pid, reaper_pid] {
        let id = start(&fleet, SLEEPS);
        let pid = pid_of(&fleet, &id);
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        if pid == shim_pid(&fleet, &id) {
            // A signal goes through its hands, and a time-out alone would not tell what to do.
            let said = fleet.d(["stop", "--signal", "KILL", &format!("w1/{id}")]).expect_code(252).err();
            assert!(said.contains("its shim may be stuck: `d stop w1/"), "{said}");
        }
        let said = fleet.d(["stop", &format!("w1/{id}")]).expect_success().out();
        assert!(said.contains("has ended: cancelled: stopped by"), "{said}");
        assert!(procs::of_job(&id).is_empty());
    }
}

#[test]
fn stop_kills_a_shim_that_does_not_answer() {
    if !peerbus::process::host::is_root() {
        return;
    }
    let fleet = worker("best");
    let id = start(&fleet, SLEEPS);
    let shim = shim_pid(&fleet, &id);
    hold(shim);
    // The next daemon does not depend on it either.
    let daemon = fleet.daemon("w1");
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    let said = fleet.d(["stop", &format!("w1/{id}")]).expect_code(251).out();
    let done = format!("its shim, process {shim}, did not answer for 10 s and was killed");
    assert!(said.contains(&done), "{said}");
    assert!(procs::of_job(&id).is_empty());
    assert_eq!(audited(&fleet, &id), ["begun", "ended"]);
    assert_eq!(journalled(&fleet, "open"), [""; 0]);
}

#[test]
fn stop_kills_a_reaper_that_does_not_answer() {
    if !peerbus::process::host::is_root() {
        return;
    }
    let fleet = worker("reaper");
    let id = start(&fleet, SLEEPS);
    hold(reaper_pid(&fleet, &id));
    let said = fleet.command(["stop", &format!("w1/{id}")]).run().expect_success().out();
    assert!(said.contains("has ended: cancelled: stopped by"), "{said}");
    assert!(procs::of_job(&id).is_empty());
}

/// Nobody stops the jobs here: all that is known is that their shims do not answer.
#[test]
fn clean_and_force_find_a_shim_that_does_not_answer() {
    let fleet = worker("best");
    let daemon = fleet.daemon("w1");
    let [cleaned, forced, other] = [(); 3].map(|()| start(&fleet, SLEEPS));
    let stand_still = |id: &str| kill(Pid::from_raw(shim_pid(&fleet, id)), Signal::SIGSTOP).unwrap();
    let ended = |id: &str| {
        let why = ending(&fleet, id)["unknown"]["why"].as_str().map(str::to_owned);
        assert!(why.as_ref().is_some_and(|why| why.contains("its shim died")), "{why:?}");
    };
    stand_still(&cleaned);
    let done = fleet.command_on("w1", ["doctor", "--clean", "--yes"]).run().expect_success().out();
    assert!(done.contains("its shim has not answered for 10 s"), "{done}");
    assert!(done.contains(&format!("stopped {cleaned}: ")) && !done.contains(&forced), "{done}");
    ended(&cleaned);
    stand_still(&forced);
    let done = fleet.command_on("w1", ["daemon", "stop", "--force"]).run().expect_success().out();
    assert!(done.contains(&format!("stopped {forced}: its shim has not answered for 10 s")), "{done}");
    assert!(procs::of_job(&forced).is_empty() && !procs::of_job(&other).is_empty());
    daemon.wait_for_end(SOON);
    daemon.start();
    daemon.wait_until_ready();
    ended(&forced);
    eventually(SOON, "the other one to go on", || {
        (journalled(&fleet, "open") == [other.clone()]).then_some(())
    });
}
