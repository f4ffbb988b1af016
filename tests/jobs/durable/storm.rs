//! A daemon that is killed again and again while many durable jobs run.

use std::time::Duration;

use peerbus::protocol::attach::AttachFrom;
use serde_json::json;

use crate::durable::bench::{Counter, SOON, Watch, audited, ending, exec, journalled, read_all, start};
use crate::harness::fleet::Fleet;
use crate::harness::procs;
use crate::harness::wait::eventually;

/// Jobs that run meanwhile.
const JOBS: usize = 20;

fn storm(kills: u32) {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let counters: Vec<Counter> =
        (0..JOBS).map(|number| Counter::with_pace(&fleet, &format!("c{number}"), "0.05")).collect();
    let ids: Vec<String> = counters.iter().map(|counter| start(&fleet, &counter.line())).collect();
    let followed = Counter::with_pace(&fleet, "followed", "0.02");
    let mut live = exec(&fleet, &["--durable"], &followed.line()).spawn();
    live.stdout_line(SOON, |line| line == "line 3");
    let watch = Watch::attach(&fleet, &ids[0], AttachFrom::Start);
    watch.expect_more();
    let begun = |counter: &Counter| Some(counter.pids()).filter(|pids| !pids.is_empty());
    let pids: Vec<Vec<i32>> =
        counters.iter().map(|counter| eventually(SOON, "its pid", || begun(counter))).collect();
    for kill in 0..kills {
        daemon.kill9();
        daemon.start();
        if kill % 2 == 0 {
            daemon.wait_until_ready();
        } else {
            // Another moment each time: in recovery, while it connects, when it serves.
            std::thread::sleep(Duration::from_millis(u64::from(kill * 7 % 150)));
        }
    }
    if !daemon.is_running() {
        daemon.start();
    }
    daemon.wait_until_ready();
    for (counter, before) in counters.iter().zip(&pids) {
        assert_eq!(&counter.pids(), before, "none was run again");
        assert!(before.len() == 1 && procs::look_at(before[0]).is_some(), "all run on");
    }
    watch.expect_more();
    counters.iter().for_each(Counter::stop);
    followed.stop();
    let finished = live.wait(SOON * 2).expect_code(7);
    let own = |line: &&str| line.starts_with("d: ");
    let err: String =
        finished.err().lines().filter(|line| !own(line)).map(|line| format!("{line}\n")).collect();
    Counter::expect_whole(finished.out().as_bytes(), err.as_bytes());
    let heard = watch.end();
    assert_eq!(heard.code(), Some(7), "{:?}", heard.outcome);
    Counter::expect_whole(&heard.out, &heard.err);
    for id in &ids {
        assert_eq!(ending(&fleet, id), json!({"exited": {"code": 7}}));
        let heard = read_all(&fleet, id);
        assert_eq!(heard.code(), Some(7), "{:?}", heard.outcome);
        Counter::expect_whole(&heard.out, &heard.err);
        assert_eq!(audited(&fleet, id), ["begun", "ended"], "{id}");
    }
    eventually(SOON, "all records to be closed", || journalled(&fleet, "open").is_empty().then_some(()));
}

#[test]
fn twenty_jobs_live_through_a_hundred_deaths_of_their_daemon() {
    storm(100);
}
