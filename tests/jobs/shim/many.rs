//! Many shims at once, on one machine.

use std::fs;
use std::time::Instant;

use peerbus::process::{ContainmentKind, raise_descriptor_limit};
use peerbus::protocol::Ending;
use peerbus::shim::{Found, JobSpec, ShimConnection, ToShim};

use crate::shim::bench::{Bench, ended, logged, pid_of, shims_of};

/// Of the memory of a process: what it would give back if it went, and its fair share of what others use too,
/// in KiB.
fn memory(pid: i32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a process");
    let sum = |names: &[&str]| {
        let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        lines.filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>()
    };
    (sum(&["Private_Clean:", "Private_Dirty:"]), sum(&["Pss:"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
async fn a_hundred_are_bounded() {
    let many = 100;
    raise_descriptor_limit().expect("descriptors for so many connections");
    let bench = Bench::new(ContainmentKind::Best);
    let begin = Instant::now();
    let mut all: Vec<(JobSpec, ShimConnection)> = Vec::new();
    for number in 0..many {
        let order = bench.order(&format!("echo {number}; exec sleep 1000"));
        let link = bench.start(&order);
        all.push((order, link));
    }
    let took = begin.elapsed();
    for (order, _) in &all {
        logged(&bench, order, |end| end.out > 0).await;
    }
    let each: Vec<(u64, u64)> = all.iter().map(|(_, link)| memory(pid_of(link))).collect();
    let own = each.iter().map(|(own, _)| own).sum::<u64>() / many as u64;
    let share = each.iter().map(|(_, share)| share).sum::<u64>() / many as u64;
    println!("{many} shims, started in {took:?}: {own} KiB of its own each, {share} KiB with its share");
    assert!(share < 5 * 1024, "{share} KiB each");
    for (_, link) in &all {
        link.say(ToShim::Stop { ending: Ending::TimedOut {} });
    }
    for (order, link) in &mut all {
        assert_eq!(ended(link).await.ending, Ending::TimedOut {});
        assert!(matches!(crate::shim::bench::gone(&bench, order).await, Found::Ended(_)));
    }
    let (last, _) = all.last().expect("many");
    crate::harness::wait::eventually(crate::shim::bench::PATIENCE, "the end of the last", || {
        shims_of(last).is_empty().then_some(())
    });
}
