//! Whoever cannot look, because no descriptor is free, must never say that nothing is left.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use peerbus::process::{ContainmentKind, ProcessKey};

use crate::process::bench::{Bench, PATIENCE, Said, line, runs};

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

async fn says_nothing_of_what_it_cannot_see(containment: ContainmentKind) {
    let bench = Bench::new(containment);
    let started =
        bench.start(&line("setsid sh -c 'echo $$; exec sleep 1000' & exec sleep 1000")).expect("started");
    let tree = started.process.tree();
    let child = Said::of(started.stdout).pids(1).await[0];
    let own = ProcessKey::of_self().expect("our own");
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
    if in_a_child("process::blind::blindness_is_not_emptiness") {
        says_nothing_of_what_it_cannot_see(ContainmentKind::Best).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blindness_is_not_emptiness_with_a_reaper() {
    if in_a_child("process::blind::blindness_is_not_emptiness_with_a_reaper") {
        says_nothing_of_what_it_cannot_see(ContainmentKind::Reaper).await;
    }
}

/// With so few descriptors, then one more, and so on: each time it runs, or it does not and nothing has run.
async fn starts_or_has_not_run(containment: ContainmentKind) {
    let bench = Bench::new(containment);
    let (mut failed, mut started) = (0, 0);
    for more in 0.. {
        let mark = bench.state.path().join(format!("ran-{more}"));
        let spec = line(&format!("echo > {}; echo on; exec sleep 1000", mark.display()));
        let used = used();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, used.len() as u64 + more, hard).expect("lowered");
        let outcome = tokio::task::block_in_place(|| bench.start(&spec));
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("raised");
        drop(used);
        match outcome {
            Ok(it) => {
                started += 1;
                assert_eq!(Said::of(it.stdout).next().await, "on");
                assert_eq!(it.process.tree().stop(GRACE).await.expect("seen").left, 0);
            }
            Err(error) => {
                failed += 1;
                assert!(!error.may_have_run && !mark.exists(), "with {more} descriptors: {error}");
            }
        }
        if started == 5 {
            break;
        }
        assert!(more < 100, "with {more} descriptors it does not start");
    }
    assert!(failed > 5, "{failed}");
}

/// All numbers of descriptors from 0 on, each taken: by what it was taken before, or by one that is returned here.
fn used() -> Vec<Option<File>> {
    let taken = || std::fs::read_dir("/proc/self/fd").expect("open files").count();
    let mut used: Vec<Option<File>> = Vec::new();
    loop {
        let next = File::open("/dev/null").expect("a descriptor");
        let number = usize::try_from(next.as_raw_fd()).expect("a number");
        used.resize_with(number, || None);
        used.push(Some(next));
        // One of them is that of the look.
        if taken() == used.len() + 1 {
            return used;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_nothing_runs() {
    if in_a_child("process::blind::without_descriptors_nothing_runs") {
        starts_or_has_not_run(ContainmentKind::Best).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_nothing_runs_with_a_reaper() {
    if in_a_child("process::blind::without_descriptors_nothing_runs_with_a_reaper") {
        starts_or_has_not_run(ContainmentKind::Reaper).await;
    }
}
