//! Stopping: exactly that daemon, to its real end.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::child::{Live, piped};
use crate::harness::procs;
use crate::harness::wait::eventually;
use crate::lifecycle::bench::{Machine, SOON, says};

#[test]
fn it_returns_when_the_daemon_has_ended() {
    let machine = Machine::new();
    let pid = machine.started();
    let finished = machine.stop().run().expect_success();
    assert!(finished.out().starts_with(&format!("stopped peer=w1 pid={pid} ")), "{finished:?}");
    assert!(procs::look_at(pid).is_none());
    let status = machine.status(3);
    assert_eq!((&status["state"], &status["reason"]), (&"stopped".into(), &"asked to stop".into()));
    let again = machine.stop().run().expect_success();
    says(&again, &["no daemon runs on", machine.state().to_str().unwrap()]);
    assert_eq!(again.out(), "");
    assert!(machine.started() != pid);
}

#[test]
fn the_log_says_who_asked_it_to_stop() {
    let machine = Machine::new();
    let pid = machine.started();
    let mut shell = piped("sh");
    shell
        .stdin(Stdio::piped())
        .arg("-c")
        .arg(format!("kill -HUP {pid}; read line; kill -TERM {pid}; read line"));
    let mut shell = Live::start("a shell", shell).unwrap();
    let uid = nix::unistd::getuid();
    let by = |said: &str, signal: &str| {
        format!("{said} signal={signal} by=\"sh (pid {}, uid {uid})\"", shell.pid())
    };
    let (reload, stop) = (by("asked to read the policy again", "HUP"), by("asked to stop", "TERM"));
    let says = |line: &str| fs::read_to_string(machine.log()).unwrap().contains(line).then_some(());
    eventually(SOON, "who sent HUP", || says(&reload));
    shell.write(b"\n").unwrap();
    eventually(SOON, "who sent TERM", || says(&stop));
    eventually(SOON, "its end", || procs::look_at(pid).is_none().then_some(()));
}

#[test]
fn where_none_ever_ran_nothing_is_made() {
    let machine = Machine::new();
    machine.stop().run().expect_success();
    machine.status(3);
    assert!(!machine.state().exists());
}

#[test]
fn one_that_starts_is_stopped_and_its_start_says_so() {
    let machine = Machine::new();
    machine.fleet.server().kill();
    let mut start = machine.start().spawn();
    machine.starting();
    machine.stop().run().expect_success();
    says(&start.wait(SOON).expect_code(1), &["did not come up", "it was stopped"]);
    machine.nothing_is_left();
}

#[test]
fn its_jobs_are_stopped_with_their_words() {
    let machine = Machine::new();
    machine.started();
    let marker = procs::marker();
    let mut job = machine.job(&marker);
    machine.stop().run().expect_success();
    let finished = job.wait(SOON).expect_code(130);
    assert!(finished.err().contains("daemon stopping"), "{finished:?}");
    procs::wait_until_gone(&marker, SOON);
}

/// One that does not answer is killed only when that was asked for, and its jobs with it.
fn killed_with_its_jobs(containment: &str) {
    let machine = Machine::new();
    let started = machine.start().env("PEERBUS_CONTAINMENT", containment).run().expect_success();
    let pid = crate::lifecycle::bench::pid_in(&started);
    let marker = procs::marker();
    let job = machine.job(&marker);
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    procs::wait_for_state(pid, 'T', SOON);
    let patient = machine.command(["daemon", "stop", "--timeout", "300ms"]).run().expect_code(1);
    says(&patient, &[&format!("still runs as process {pid}"), "--force"]);
    assert_eq!(procs::look_at(pid).unwrap().state, 'T');
    let forced = machine.command(["daemon", "stop", "--timeout", "300ms", "--force"]).run().expect_success();
    assert!(forced.out().starts_with(&format!("killed peer=w1 pid={pid} ")), "{forced:?}");
    assert_eq!(procs::with_argument(&marker), [], "nothing of its jobs is left when it returns");
    assert!(procs::look_at(pid).is_none());
    machine.nothing_is_left();
    drop(job);
}

#[test]
fn a_daemon_that_hangs_is_killed_with_its_jobs() {
    killed_with_its_jobs("best");
}

#[test]
fn a_daemon_that_hangs_is_killed_with_its_reapers_jobs() {
    killed_with_its_jobs("reaper");
}

#[test]
fn a_process_that_got_its_pid_is_never_hit() {
    let machine = Machine::new();
    let pid = machine.started();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    crate::harness::wait::eventually(SOON, "its end", || procs::look_at(pid).is_none().then_some(()));
    let mut sleep = piped("sleep");
    sleep.arg("60");
    let mut bystander = Live::start("a bystander", sleep).unwrap();
    for name in ["lock", "state.json"] {
        let file = machine.state().join(name);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace(&format!("\"pid\":{pid}"), &format!("\"pid\":{}", bystander.pid())))
            .unwrap();
    }
    says(&machine.stop().run().expect_success(), &["no daemon runs on"]);
    machine.command(["daemon", "stop", "--force"]).run().expect_success();
    assert_eq!(machine.status(3)["state"], "failed");
    assert!(bystander.try_wait(Duration::from_millis(200)).is_none(), "it was hit");
    machine.started();
}

#[test]
fn from_inside_its_own_job_it_is_refused() {
    let machine = Machine::new();
    let pid = machine.started();
    let state = machine.state();
    let config = machine.fleet.file("c.toml", "");
    for verb in ["stop", "restart"] {
        let d = [env!("CARGO_BIN_EXE_d"), "daemon", verb, "--state-dir", state.to_str().unwrap()];
        let at = ["--config", config.to_str().unwrap()];
        let exec = ["exec", "w1", "-C", "/", "--"].into_iter().chain(d).chain(at);
        let finished = machine.command(exec).run().expect_code(1);
        says(&finished, &["this is the job", &format!("to {verb} that daemon"), "from a shell"]);
    }
    assert_eq!(machine.status(0)["pid"], pid);
}

/// In a command, `$PPID` is no shell of the person's but the daemon.
#[test]
fn a_command_that_kills_its_parent_does_not_stop_the_daemon() {
    let machine = Machine::new();
    let pid = machine.started();
    // In the shell itself, in a child without its mark, and as its last word.
    let lines = [
        "kill $PPID; kill -INT $PPID; sleep 0.1; echo on",
        "env -i sh -c \"kill $PPID; sleep 1\"; echo on",
        "echo on; kill $PPID",
    ];
    for line in lines {
        let job = machine.fleet.command(["exec", "w1", "-C", "/tmp", "--sh", line]).run().expect_success();
        assert_eq!(job.out(), "on\n", "{line}: {job:?}");
    }
    let log = eventually(SOON, "all four signals in the log", || {
        fs::read_to_string(machine.log()).ok().filter(|log| log.matches("which is ignored").count() == 4)
    });
    assert!(log.contains("job=") && log.contains(" by=\"bash (pid "), "{log}");
    assert!(procs::look_at(pid).is_some());

    // `d` means it, also in there, where it is told to.
    let (program, state) = (crate::harness::d_program(), machine.state());
    let stop =
        format!("env -u PEERBUS_JOB {} daemon stop --state-dir {}", program.display(), state.display());
    machine.fleet.command(["exec", "-d", "w1", "-C", "/tmp", "--sh", &stop]).run().expect_success();
    eventually(SOON, "its end", || procs::look_at(pid).is_none().then_some(()));
}
