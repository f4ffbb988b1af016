//! An upgrade while commands come in every 50 ms: none is lost, and none runs twice.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::procs;
use crate::upgrade::bench::{Machine, SOON};

#[test]
fn nothing_is_lost_and_nothing_runs_twice() {
    let machine = Machine::new();
    let pid = machine.started();
    let place = machine.fleet.directory("ran");
    let (over, end) = (AtomicBool::new(false), machine.fleet.path().join("end"));
    let ran = place.join("all").display().to_string();
    let (mut asked, mut beside) = (0, (Duration::MAX, Duration::MAX));
    thread::scope(|scope| {
        let (machine, over, end, ran) = (&machine, &over, &end, &ran);
        let mut job = machine.job_until(end);
        let caller = scope.spawn(move || {
            let mut running = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let line = format!("echo {} >> '{ran}'; echo {}", running.len(), running.len());
                let words = ["exec", "w1", "--wait", "20s", "-C", "/", "--sh", &line];
                running.push(machine.d(words).spawn());
                thread::sleep(Duration::from_millis(50));
            }
            let count = running.len();
            for (number, mut live) in running.into_iter().enumerate() {
                assert_eq!(live.wait(SOON).expect_success().out(), format!("{number}\n"));
            }
            count
        });
        let watcher = scope.spawn(move || {
            // A child that is about to become a job still looks like the daemon, for an instant.
            let mut others: BTreeMap<(i32, u64), Instant> = BTreeMap::new();
            let (mut another, mut child) = (Duration::ZERO, Duration::ZERO);
            while !over.load(Ordering::Relaxed) {
                for other in daemons_of(machine).into_iter().filter(|process| process.pid != pid) {
                    let since = others.entry((other.pid, other.started)).or_insert_with(Instant::now);
                    let longest = if other.parent == pid { &mut child } else { &mut another };
                    *longest = since.elapsed().max(*longest);
                }
                thread::sleep(Duration::from_millis(5));
            }
            (another, child)
        });
        let mut upgrade = machine.upgrade(&machine.version("0.1.1"), &["--jobs-timeout", "60s"]).spawn();
        upgrade.stderr_line(SOON, |line| line.contains("waits until"));
        fs::write(end, "").unwrap();
        assert_eq!(job.wait(SOON).expect_success().out(), "begun\nended\n");
        upgrade.wait(SOON * 3).expect_success();
        machine.upgrade(&machine.version("0.1.2"), &[]).run().expect_success();
        over.store(true, Ordering::Relaxed);
        asked = caller.join().unwrap();
        beside = watcher.join().unwrap();
    });
    assert_eq!(machine.serves("0.1.2")["pid"], pid);
    let (another, child) = beside;
    assert!(another < Duration::from_millis(500), "two daemons never, but for {another:?}");
    assert!(child < Duration::from_secs(10), "nor one that is the other's child, but for {child:?}");
    let mut times: BTreeMap<usize, usize> = BTreeMap::new();
    for line in fs::read_to_string(ran).unwrap().lines() {
        *times.entry(line.parse().unwrap()).or_default() += 1;
    }
    assert!(asked > 20, "there was load: {asked}");
    assert_eq!(times, (0..asked).map(|number| (number, 1)).collect());
}

/// The processes that are this machine's daemon, without guards and what is only tried out.
fn daemons_of(machine: &Machine) -> Vec<procs::Process> {
    let is_daemon = |process: &procs::Process| {
        let words = &process.arguments;
        let has = |wanted: &str| words.iter().any(|word| word == wanted);
        words.get(1).is_some_and(|word| word == "daemon") && has("run") && !has("guard") && !has("--check")
    };
    procs::touching(&machine.state()).into_iter().filter(is_daemon).collect()
}
