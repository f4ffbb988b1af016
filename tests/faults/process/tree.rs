//! Signalling, counting and stopping everything a job has started.

use std::time::{Duration, Instant};

use peerbus::process::{ExitKind, JobScope, Signal};

use crate::harness::both;
use crate::process::bench::{Bench, PATIENCE, Said, all_of, argv, exit_of, line, runs, state_of};

both! {
    stop_reaches_everyone stop_is_polite_first stop_of_nothing stop_wakes_the_stopped fork_bomb
    signal_reaches_everyone signal_after_the_end left_alone a_grandchild_holds_the_pipe
}

/// The command, a child in a session of its own, one whose parent has ended, and one that does not
/// listen: each says its pid when it is ready.
const FAMILY: &str = "
    setsid sh -c 'echo $$; sleep 1000; :' &
    ( setsid sh -c 'sh -c \"echo \\$\\$; exec sleep 1000\" & exit' & )
    sh -c 'trap \"\" TERM; echo $$; exec sleep 1000' &
    wait; :";

const GRACE: Duration = Duration::from_millis(300);

async fn stop_reaches_everyone(bench: Bench) {
    let spec = line(FAMILY);
    let mut started = bench.start(&spec).expect("started");
    let mut said = Said::of(started.stdout);
    let pids = said.pids(3).await;
    let tree = started.process.tree();
    // Five: the one in a session of its own may have begun its sleep, or not yet.
    while tree.count().expect("seen") != 5 {
        tokio::task::yield_now().await;
    }
    let stopped = tokio::time::timeout(PATIENCE, tree.stop(GRACE)).await.expect("stopped").expect("seen");
    assert_eq!((stopped.killed, stopped.left), (5, 0));
    assert!(pids.iter().all(|&pid| !runs(pid)), "{pids:?}");
    assert_eq!(tree.count().expect("seen"), 0);
    assert!(matches!(exit_of(&mut started.process).await.status, ExitKind::Signal(15 | 9)));
    said.end().await;
    if let JobScope::Cgroup { path } = bench.job_scope(&spec) {
        assert!(!path.exists(), "the cgroup is removed");
    }
}

async fn stop_is_polite_first(bench: Bench) {
    // A child is ready when it is no longer the shell, whose trap it has at first.
    let polite = "trap 'echo bye; exit 5' TERM; sh -c 'echo ready; exec sleep 1000' & wait";
    let mut started = bench.start(&line(polite)).expect("started");
    let mut said = Said::of(started.stdout);
    assert_eq!(said.next().await, "ready");
    let began = Instant::now();
    let stopped = started.process.tree().stop(PATIENCE).await.expect("seen");
    assert!(began.elapsed() < PATIENCE / 2, "it does not wait for longer than it takes");
    assert_eq!(stopped.killed, 2);
    assert_eq!(said.next().await, "bye");
    assert_eq!(exit_of(&mut started.process).await.status, ExitKind::Code(5));
}

async fn stop_of_nothing(bench: Bench) {
    let mut started = bench.start(&argv(&["true"])).expect("started");
    exit_of(&mut started.process).await;
    let stopped = started.process.tree().stop(PATIENCE).await.expect("seen");
    assert_eq!((stopped.killed, stopped.left), (0, 0));
}

async fn stop_wakes_the_stopped(bench: Bench) {
    let mut started = bench.start(&line("trap 'exit 5' TERM; echo ready; kill -STOP $$")).expect("started");
    Said::of(started.stdout).next().await;
    let pid = started.process.identity().pid;
    while state_of(pid) != 'T' {
        tokio::task::yield_now().await;
    }
    started.process.tree().stop(PATIENCE).await.expect("seen");
    assert!(matches!(exit_of(&mut started.process).await.status, ExitKind::Code(5) | ExitKind::Signal(15)));
}

/// Each generation begins the next one and ends. A counter in a file bounds it should stopping fail.
async fn fork_bomb(bench: Bench) {
    let script = bench.state.path().join("bomb");
    let text = "#!/bin/sh\ntrap '' TERM\nn=$1\n[ $n -ge 20000 ] && exit\n[ $n = 50 ] && echo spreading\nsetsid $0 $((n+1)) &\n[ $((n % 10)) = 0 ] && sleep 100 &\nexit\n";
    std::fs::write(&script, text).expect("a script");
    let mut started = bench
        .start(&argv(&["sh", "-c", &format!("chmod +x {0}; {0} 0", script.display())]))
        .expect("started");
    let mut said = Said::of(started.stdout);
    assert_eq!(said.next().await, "spreading");
    exit_of(&mut started.process).await;
    let tree = started.process.tree();
    let stopped = tokio::time::timeout(PATIENCE, tree.stop(Duration::from_millis(20)))
        .await
        .expect("stopped")
        .expect("seen");
    assert!(stopped.killed >= 5 && stopped.left == 0, "{stopped:?}");
    assert_eq!(tree.count().expect("seen"), 0);
    said.end().await;
}

async fn signal_reaches_everyone(bench: Bench) {
    let text = "setsid sh -c 'trap \"echo far; exit\" USR1; echo ready; sleep 1000 & wait' &
        trap 'echo near; exit 3' USR1; echo ready; sleep 1000 & wait";
    let mut started = bench.start(&line(text)).expect("started");
    let mut said = Said::of(started.stdout);
    assert_eq!([said.next().await, said.next().await], ["ready", "ready"]);
    started.process.tree().signal("USR1".parse().expect("a signal")).expect("signalled");
    let mut heard = [said.next().await, said.next().await];
    heard.sort();
    assert_eq!(heard, ["far", "near"]);
    assert_eq!(exit_of(&mut started.process).await.status, ExitKind::Code(3));
    started.process.tree().stop(GRACE).await.expect("seen");
}

async fn signal_after_the_end(bench: Bench) {
    let mut started = bench.start(&argv(&["true"])).expect("started");
    exit_of(&mut started.process).await;
    let error = started.process.tree().signal(Signal::TERM).expect_err("nobody there");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

async fn left_alone(bench: Bench) {
    let spec = line("sleep 1000 & echo $!; setsid sleep 1000 & echo $!");
    let mut started = bench.start(&spec).expect("started");
    let pids = Said::of(started.stdout).pids(2).await;
    exit_of(&mut started.process).await;
    let tree = started.process.tree();
    assert_eq!(tree.count().expect("seen"), 2);
    tree.release();
    bench.containment_manager.sweep();
    assert!(pids.iter().all(|&pid| runs(pid)), "left alone on purpose");
    assert_eq!(tree.count().expect("seen"), 2);
    assert_eq!(tree.stop(PATIENCE).await.expect("seen").killed, 2, "until somebody stops them");
    bench.containment_manager.sweep();
    if let JobScope::Cgroup { path } = bench.job_scope(&spec) {
        assert!(!path.exists(), "swept");
    }
}

async fn a_grandchild_holds_the_pipe(bench: Bench) {
    let mut started = bench.start(&line("(sleep 1000; :) & echo main")).expect("started");
    let mut said = Said::of(started.stdout);
    assert_eq!(said.next().await, "main");
    assert_eq!(exit_of(&mut started.process).await.status, ExitKind::Code(0));
    started.process.tree().stop(GRACE).await.expect("seen");
    said.end().await;
    assert_eq!(all_of(started.stderr).await, "");
}
