//! Starting: ready when it says so, one daemon at most, and free of who started it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::harness::procs;
use crate::lifecycle::bench::{Machine, SOON, pid_in, says};

#[test]
fn a_started_daemon_is_ready_at_once() {
    let machine = Machine::new();
    let finished = machine.start().run().expect_success();
    let pid = pid_in(&finished);
    let wanted = format!("started peer=w1 pid={pid} nats={} since=", machine.fleet.url());
    assert!(finished.out().starts_with(&wanted) && finished.out().lines().count() == 1, "{finished:?}");
    assert_eq!(finished.err(), "");
    let ran = machine.command(["exec", "w1", "-C", "/", "--", "echo", "here"]).run().expect_success();
    assert_eq!(ran.out(), "here\n");
    let log = fs::read_to_string(machine.log()).unwrap();
    assert!(log.contains("ready peer=w1 nats="), "{log}");
}

#[test]
fn it_is_free_of_who_started_it() {
    let machine = Machine::new();
    let d = env!("CARGO_BIN_EXE_d");
    let line = format!("umask 077; exec 7</etc/passwd; exec {d} daemon start");
    let finished = machine.command([""]).instead("sh").with(|sh| _ = sh.args(["-c", &line])).run();
    let pid = pid_in(&finished.expect_success());
    let daemon = procs::look_at(pid).unwrap();
    assert_eq!((daemon.session, daemon.group), (pid, pid));
    assert_eq!(procs::working_directory(pid), Some(PathBuf::from("/")));
    let descriptors: Vec<(String, PathBuf)> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .map(|fd| {
            (fd.file_name().to_string_lossy().into_owned(), fs::read_link(fd.path()).unwrap_or_default())
        })
        .collect();
    let place = |number: &str| descriptors.iter().find(|(fd, _)| fd == number).map(|(_, to)| to.clone());
    assert_eq!(place("0"), Some(PathBuf::from("/dev/null")));
    assert_eq!((place("1"), place("2")), (Some(machine.log()), Some(machine.log())));
    let foreign = |to: &PathBuf| to.to_string_lossy().starts_with("pipe:") || to.ends_with("passwd");
    assert!(!descriptors.iter().any(|(_, to)| foreign(to)), "{descriptors:?}");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Umask:\t0022"), "{status}");
    assert_eq!(fs::metadata(machine.log()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(machine.state()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_terminal_it_was_started_from_may_close() {
    let machine = Machine::new();
    // `script` gives it a terminal, which hangs up when the command has ended.
    let line = format!("{} daemon start", env!("CARGO_BIN_EXE_d"));
    let arguments = ["-qec", &line, "/dev/null"];
    let finished = machine.command([""]).instead("script").with(|script| _ = script.args(arguments)).run();
    let pid = pid_in(&finished.expect_success());
    let ran = machine.command(["exec", "w1", "-C", "/", "--", "echo", "here"]).run().expect_success();
    assert_eq!((ran.out().as_str(), machine.status(0)["pid"].as_i64()), ("here\n", Some(pid.into())));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGHUP).unwrap();
    machine.command(["exec", "w1", "-C", "/", "--", "true"]).run().expect_success();
    assert_eq!(machine.status(0)["pid"], pid);
}

#[test]
fn to_start_what_runs_is_to_be_told_so() {
    let machine = Machine::new();
    let pid = machine.started();
    let again = machine.start().run().expect_success();
    assert!(again.out().starts_with(&format!("running already peer=w1 pid={pid} ")), "{again:?}");
    assert_eq!(again.err(), "");
    let other = machine.command(["daemon", "start", "--id", "w2"]).run().expect_success();
    assert_eq!(pid_in(&other), pid);
    says(&other, &["the daemon that runs has peer id w1, not w2"]);
}

#[test]
fn one_in_the_foreground_counts_too() {
    let machine = Machine::new();
    let mut live = machine.command(["daemon", "run"]).spawn();
    live.stderr_line(SOON, |line| line.starts_with("ready "));
    let finished = machine.start().run().expect_success();
    assert!(
        finished.out().starts_with(&format!("running already peer=w1 pid={} ", live.pid())),
        "{finished:?}"
    );
    assert!(!machine.log().exists());
}

#[test]
fn of_many_starts_at_once_one_starts_it_and_all_know_it() {
    let machine = Machine::new();
    let starts: Vec<_> = (0..6).map(|_| machine.start().spawn()).collect();
    let ended: Vec<_> = starts.into_iter().map(|mut live| live.wait(SOON).expect_success()).collect();
    let pid = pid_in(&ended[0]);
    assert!(ended.iter().all(|finished| pid_in(finished) == pid), "{ended:?}");
    assert_eq!(
        ended.iter().filter(|finished| finished.out().starts_with("started ")).count(),
        1,
        "{ended:?}"
    );
    assert_eq!(machine.status(0)["pid"], pid);
    let log = fs::read_to_string(machine.log()).unwrap();
    assert_eq!(log.lines().filter(|line| line.starts_with("ready ")).count(), 1, "{log}");
}

#[test]
fn one_that_is_on_its_way_is_waited_for() {
    let machine = Machine::new();
    machine.fleet.server().kill();
    let mut first = machine.start().spawn();
    let pid = machine.starting();
    assert_eq!(machine.status(1)["state"], "starting");
    let mut second = machine.start().spawn();
    machine.fleet.server().restart();
    for live in [&mut first, &mut second] {
        assert_eq!(pid_in(&live.wait(SOON).expect_success()), pid);
    }
}

#[test]
fn flags_and_paths_reach_it_from_anywhere() {
    let machine = Machine::new();
    machine.fleet.file("here/settings.toml", "tags = ['home']\n");
    let finished = machine
        .fleet
        .command(["daemon", "start", "--id", "w9", "--role", "leader", "--directory", "/tmp"])
        .in_directory(machine.fleet.path().join("here"))
        .with(|d| _ = d.args(["--state-dir", "state", "--config", "settings.toml"]))
        .run()
        .expect_success();
    let pid = pid_in(&finished);
    let state = machine.fleet.path().join("here/state");
    let status = machine.command(["daemon", "status", "--json"]).env("PEERBUS_STATE_DIR", &state).run();
    let status: serde_json::Value = serde_json::from_str(&status.expect_success().out()).unwrap();
    assert_eq!((&status["role"], &status["peer_id"]), (&"leader".into(), &"w9".into()));
    let ran = machine.command(["exec", "w9", "--", "pwd"]).run().expect_success();
    assert_eq!(ran.out(), "/tmp\n");
    // What may hold a password is not where others can read it.
    let arguments = procs::look_at(pid).unwrap().arguments.join(" ");
    assert!(!arguments.contains("nats://"), "{arguments}");
}
