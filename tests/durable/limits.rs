//! Limits: how many there may be, how much is kept, and disks that are full.

use peerbus::protocol::attach::From;
use peerbus::protocol::frame::StreamKind;
use serde_json::json;

use crate::bench::{Counter, SOON, Watch, ending, exec, journalled, of_keeper, read_all, start};
use crate::harness::disk::SmallDisk;
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::wait::eventually;

#[test]
fn no_more_than_may_be_are_taken_and_foreground_jobs_are_not_counted() {
    let options = DaemonOptions::worker("w1").configuration("[jobs]\nmost = 2\n");
    let fleet = Fleet::builder().daemon(options).start();
    let daemon = fleet.daemon("w1");
    let counters: Vec<Counter> = ["a", "b"].iter().map(|name| Counter::new(&fleet, name)).collect();
    let ids: Vec<String> = counters.iter().map(|counter| start(&fleet, &counter.line())).collect();
    let refused = || {
        let refused = exec(&fleet, &["-d"], "echo ran >> ran").run().expect_code(250);
        let sentence = "refused: w1: w1 runs 2 durable jobs at once and no more";
        assert!(refused.err().contains(sentence) && refused.out().is_empty(), "{refused:?}");
    };
    refused();
    assert_eq!(exec(&fleet, &[], "echo on").run().expect_success().out(), "on\n");
    // The next daemon counts what it has adopted.
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    refused();
    counters[0].stop();
    assert_eq!(ending(&fleet, &ids[0]), json!({"exited": {"code": 7}}));
    start(&fleet, "true");
    counters[1].stop();
    assert!(!fleet.path().join("ran").exists());
}

#[test]
fn what_is_no_longer_kept_is_said_to_be_missing() {
    let options = DaemonOptions::worker("w1").configuration("[jobs]\nlog_limit = \"64KiB\"\n");
    let fleet = Fleet::builder().daemon(options).start();
    let id = start(&fleet, "seq 1 100000; echo problem >&2");
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 0}}));
    let whole = std::process::Command::new("seq").args(["1", "100000"]).output().unwrap().stdout;
    let heard = read_all(&fleet, &id);
    assert!(whole.ends_with(&heard.out) && heard.out.len() < 70_000 && heard.out.len() > 40_000);
    assert_eq!(heard.err, b"problem\n");
    let missing = (whole.len() - heard.out.len()) as u64;
    assert_eq!((heard.not_kept.as_slice(), heard.code()), ([(StreamKind::Out, missing)].as_slice(), Some(0)));
    // Its caller would have had it all, and is told that it was lost.
    let mut slow = exec(&fleet, &["--durable"], "seq 1 3000000").paused_output().spawn();
    let id = eventually(SOON, "its record", || journalled(&fleet, "open").pop());
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 0}}));
    slow.stdout.resume();
    let said = slow.wait(SOON).expect_code(251).err();
    assert!(said.contains("output was lost: ") && said.contains(" bytes of stdout are lost"), "{said}");
    // Who asks for a place that is gone is told where it begins, and gets all there is from there.
    let later = Watch::attach(&fleet, &id, From::Byte(10)).end();
    assert_eq!(
        later.accepted.as_ref().and_then(|it| it.from).map(|it| it.out),
        Some((whole.len() - heard.out.len()) as u64)
    );
    assert!(later.out == heard.out && later.code() == Some(0), "{:?}", later.outcome);
}

#[test]
fn on_a_full_disk_the_command_waits_and_nothing_is_lost() {
    let fleet = Fleet::builder().start();
    let disk = SmallDisk::at(&fleet.directory("state-w1"));
    let options = DaemonOptions::worker("w1").configuration("[jobs]\nlog_limit = \"256KiB\"\n");
    fleet.add(options);
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    let watch = Watch::attach(&fleet, &id, From::Start);
    watch.expect_more();
    disk.fill();
    // The keeper says it in its own file, which has no room either; what it holds is not in the log.
    let full = std::fs::metadata(of_keeper(&fleet, &id, "log")).is_ok();
    assert!(full);
    let refused = exec(&fleet, &["-d"], "echo ran >> ran").run().expect_code(250);
    assert!(refused.err().contains("journal cannot be written"), "{refused:?}");
    counter.stop();
    disk.free();
    let heard = watch.end();
    assert_eq!(heard.code(), Some(7), "{:?}", heard.outcome);
    Counter::expect_whole(&heard.out, &heard.err);
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 7}}));
    assert!(!fleet.path().join("ran").exists());
}
