//! Whoever cannot look, because no descriptor is free, must never say that nothing is left.

use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use peerbus::process::{Containment, Identity};

use crate::bench::{Bench, PATIENCE, Said, line, runs};

/// Longer than the blindness.
const GRACE: Duration = Duration::from_secs(2);

/// Set where a test is its own child, in which no other test runs.
const AS_CHILD: &str = "PROCESS_TEST_AS_CHILD";

/// Runs a test again in a process of its own, for the limit on descriptors is one for the process.
fn in_a_child(name: &str) -> bool {
    if std::env::var_os(AS_CHILD).is_some() {
        return true;
    }
    let mut again = Command::new(std::env::current_exe().expect("this program"));
    let run = again.args(["--exact", name, "--nocapture"]).env(AS_CHILD, "1").output().expect("run again");
    let text = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// Does something while no descriptor can be opened.
fn blind<T>(act: impl FnOnce() -> T) -> T {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).expect("lowered");
    let done = act();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("raised");
    done
}

async fn says_nothing_of_what_it_cannot_see(containment: Containment) {
    let bench = Bench::new(containment);
    let started = bench.start(&line("setsid sleep 1000 & echo $!; exec sleep 1000")).expect("started");
    let tree = started.process.tree();
    let child = Said::of(started.stdout).pids(1).await[0];
    let own = Identity::of_self().expect("our own");
    let (count, alive) = blind(|| (tree.count(), own.is_alive()));
    assert!(count.is_err() && alive.is_err(), "{count:?} {alive:?}");
    // Sight comes back in the middle.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).expect("lowered");
    let stopping = tokio::spawn(async move { tree.stop(GRACE).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!stopping.is_finished(), "nothing is over that cannot be seen");
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("raised");
    let stopped = tokio::time::timeout(PATIENCE * 2, stopping).await.expect("in time").expect("no panic");
    assert_eq!(stopped.expect("seen").left, 0);
    assert!(!runs(child));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blindness_is_not_emptiness() {
    if in_a_child("blind::blindness_is_not_emptiness") {
        says_nothing_of_what_it_cannot_see(Containment::Best).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blindness_is_not_emptiness_with_a_reaper() {
    if in_a_child("blind::blindness_is_not_emptiness_with_a_reaper") {
        says_nothing_of_what_it_cannot_see(Containment::Reaper).await;
    }
}
