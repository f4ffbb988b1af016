//! What becomes of jobs whose daemon dies, and of jobs whose reaper does.

use std::fs::{File, Permissions, TryLockError};
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use peerbus::process::{
    ContainmentKind, ContainmentManager, ExitKind, JobScope, Process, Spec, Started, clear, start,
};
use tokio::runtime::Runtime;

use crate::harness::both;
use crate::harness::wait::eventually;
use crate::process::bench::{Bench, PATIENCE, Said, argv, exit_of, line, runs};

both! { clear_stops_what_is_left clear_of_nothing two_nurseries_do_not_meet }

const PAIR: &str = "setsid sh -c 'echo $$; exec sleep 1000' & echo $$; exec sleep 1000";

/// Starts a job in a runtime that ends with everything in it, as a daemon does that is killed.
fn orphaned(bench: &Bench, spec: &Spec) -> Vec<u32> {
    std::thread::scope(|scope| {
        let daemon = scope.spawn(|| {
            let runtime = Runtime::new().expect("a runtime");
            let pids = runtime.block_on(async {
                let Started { process, stdout, .. } = bench.start(spec).expect("started");
                let pids = Said::of(stdout).pids(2).await;
                drop::<Process>(process);
                pids
            });
            runtime.shutdown_background();
            pids
        });
        daemon.join().expect("pids")
    })
}

async fn clear_stops_what_is_left(bench: Bench) {
    let spec = line(PAIR);
    let job_scope = bench.job_scope(&spec);
    let pids = orphaned(&bench, &spec);
    let killed = tokio::time::timeout(PATIENCE, clear(&job_scope, Duration::from_secs(5)));
    assert_eq!(killed.await.expect("cleared").expect("possible"), 2);
    assert!(pids.iter().all(|&pid| !runs(pid)), "{pids:?}");
    assert_eq!(clear(&job_scope, PATIENCE).await.expect("nothing left"), 0);
    let (JobScope::Cgroup { path } | JobScope::Reaper { lock: path }) = job_scope;
    assert!(!path.exists(), "{}", path.display());
}

async fn clear_of_nothing(bench: Bench) {
    let spec = argv(&["true"]);
    assert_eq!(clear(&bench.job_scope(&spec), PATIENCE).await.expect("never began"), 0);
    bench.run(&spec).await;
    assert_eq!(clear(&bench.job_scope(&spec), PATIENCE).await.expect("ended"), 0);
}

async fn two_nurseries_do_not_meet(bench: Bench) {
    let other = Bench::new(ContainmentKind::Best);
    let spec = argv(&["true"]);
    assert_ne!(bench.job_scope(&spec), other.job_scope(&spec));
    let again = peerbus::process::ContainmentManager::open(
        bench.state.path(),
        "unused".into(),
        ContainmentKind::Reaper,
    );
    if bench.containment_manager.cgroups().is_none() {
        assert_eq!(
            again.expect("a containment_manager").job_scope(spec.job),
            bench.job_scope(&spec),
            "deterministic"
        );
    }
}

/// The reaper is the parent of the command.
fn reaper_of(pid: u32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2)?.parse().ok()).expect("a parent")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_reaper_is_made_up_for() {
    let bench = Bench::new(ContainmentKind::Reaper);
    let spec = line(PAIR);
    let mut started = bench.start(&spec).expect("started");
    let pids = Said::of(started.stdout).pids(2).await;
    let reaper = nix::unistd::Pid::from_raw(reaper_of(started.process.identity().pid));
    nix::sys::signal::kill(reaper, nix::sys::signal::Signal::SIGKILL).expect("killed");
    assert_eq!(exit_of(&mut started.process).await.status, ExitKind::Unknown);
    // By their environment, which one that is about to be another program has not for a moment.
    let tree = started.process.tree();
    eventually(PATIENCE, "both to be found", || (tree.count().expect("seen") == 2).then_some(()));
    assert_eq!(clear(&bench.job_scope(&spec), PATIENCE).await.expect("cleared"), 2);
    assert!(pids.iter().all(|&pid| !runs(pid)), "{pids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reaper_does_not_listen_to_signals() {
    let bench = Bench::new(ContainmentKind::Reaper);
    let mut started = bench.start(&line("read x; exit 4")).expect("started");
    exit_of(&mut started.process).await;
    let mut started = bench.start(&line("echo ready; exec sleep 1000")).expect("started");
    Said::of(started.stdout).next().await;
    let reaper = nix::unistd::Pid::from_raw(reaper_of(started.process.identity().pid));
    for signal in [nix::sys::signal::Signal::SIGINT, nix::sys::signal::Signal::SIGTERM] {
        nix::sys::signal::kill(reaper, signal).expect("sent");
    }
    assert_eq!(started.process.tree().stop(PATIENCE).await.expect("seen").killed, 1);
    assert_eq!(exit_of(&mut started.process).await.status, ExitKind::Signal(15));
}

/// A daemon that is played by the test, and the reaper it has started.
struct Ordered {
    daemon: UnixStream,
    reaper: std::process::Child,
}

/// Orders a command as a daemon does: with the lock held already.
fn ordered(spec: &Spec, lock: &Path, daemon_lives: bool) -> Ordered {
    let (mut daemon, socket) = UnixStream::pair().expect("a socket");
    let held = File::options().read(true).write(true).create_new(true).open(lock).expect("made");
    held.lock().expect("free");
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::empty())).expect("inheritable");
    fcntl(&held, FcntlArg::F_SETFD(FdFlag::empty())).expect("inheritable");
    writeln!(daemon, "{}", serde_json::json!({ "spec": spec, "lock": lock })).expect("ordered");
    if !daemon_lives {
        daemon.shutdown(Shutdown::Both).expect("gone");
    }
    let numbers = [socket.as_raw_fd(), held.as_raw_fd()].map(|number| number.to_string());
    let mut reaper = Command::new(env!("CARGO_BIN_EXE_d"));
    let reaper = reaper.arg("reaper").args(numbers).spawn().expect("a reaper");
    Ordered { daemon, reaper }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_daemon_died_before_it_was_started_is_not_started() {
    let bench = Bench::new(ContainmentKind::Reaper);
    let mark = bench.state.path().join("ran");
    let spec = line(&format!("echo > {}; sleep 1000", mark.display()));
    let job_scope = bench.job_scope(&spec);
    let JobScope::Reaper { lock } = &job_scope else { unreachable!("a reaper was asked for") };
    let Ordered { mut reaper, .. } = ordered(&spec, lock, false);
    let ended = tokio::task::spawn_blocking(move || reaper.wait()).await.expect("waited").expect("ended");
    assert!(ended.success() && !lock.exists() && !mark.exists(), "{ended}");
    assert_eq!(clear(&job_scope, PATIENCE).await.expect("cleared"), 0);
}

/// Whoever orders a command and dies before the answer never hears of its start.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_daemon_died_while_it_was_started_is_stopped() {
    let bench = Bench::new(ContainmentKind::Reaper);
    let mark = bench.state.path().join("ran");
    let spec = line(&format!("echo > {}; exec sleep 1000", mark.display()));
    let job_scope = bench.job_scope(&spec);
    let JobScope::Reaper { lock } = &job_scope else { unreachable!("a reaper was asked for") };
    let Ordered { daemon, mut reaper } = ordered(&spec, lock, true);
    eventually(PATIENCE, "the command", || mark.exists().then_some(()));
    drop(daemon);
    let ended = tokio::task::spawn_blocking(move || reaper.wait()).await.expect("waited").expect("ended");
    let stopped = std::fs::read_to_string(lock).expect("the lock");
    clear(&job_scope, PATIENCE).await.expect("cleared");
    assert!(ended.success() && stopped == "1\n", "{ended}: {stopped:?}");
}

/// Else whoever looks then takes it that nothing will run any more.
#[tokio::test(flavor = "multi_thread")]
async fn the_lock_is_held_before_the_reaper_has_done_anything() {
    let state = tempfile::tempdir().expect("a state directory");
    let (pid, program) = (state.path().join("pid"), state.path().join("stopped"));
    // It says who it is, and does nothing more.
    let text = format!("#!/bin/sh\necho $$ > {0}.new; mv {0}.new {0}; exec sleep 1000\n", pid.display());
    std::fs::write(&program, text).expect("written");
    std::fs::set_permissions(&program, Permissions::from_mode(0o700)).expect("executable");
    let containment_manager = ContainmentManager::open(state.path(), program, ContainmentKind::Reaper)
        .expect("a containment_manager");
    let spec = argv(&["true"]);
    let job_scope = containment_manager.job_scope(spec.job);
    let JobScope::Reaper { lock } = job_scope.clone() else { unreachable!("a reaper was asked for") };
    let starting =
        tokio::task::spawn_blocking(move || start(&spec, &job_scope, &containment_manager).map(|_| ()));
    let reaper = eventually(PATIENCE, "the reaper", || std::fs::read_to_string(&pid).ok());
    let looked = File::open(&lock).expect("made").try_lock();
    let reaper = nix::unistd::Pid::from_raw(reaper.trim().parse().expect("a number"));
    nix::sys::signal::kill(reaper, nix::sys::signal::Signal::SIGKILL).expect("killed");
    assert!(matches!(looked, Err(TryLockError::WouldBlock)), "{looked:?}");
    starting.await.expect("no panic").expect_err("its reaper was killed");
    assert!(!lock.exists(), "nothing is left");
}
