//! Limits: how many there may be, how much is kept, and disks that are full.

use std::time::Duration;

use peerbus::protocol::attach::AttachFrom;
use peerbus::protocol::frame::StreamKind;
use serde_json::json;

use crate::durable::bench::{Counter, SOON, Watch, ending, exec, journalled, read_all, start};
use crate::harness::disk::SmallDisk;
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::procs;
use crate::harness::wait::{eventually, never};

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
    // Who asks for a place that is gone is told where it begins, and gets all there is from there.
    let later = Watch::attach(&fleet, &id, AttachFrom::Byte(10)).end();
    assert_eq!(
        later.accepted.as_ref().and_then(|it| it.from).map(|it| it.out),
        Some((whole.len() - heard.out.len()) as u64)
    );
    assert!(later.out == heard.out && later.code() == Some(0), "{:?}", later.outcome);
    // Its caller would have had it all, and is told that it was lost.
    let mut slow = exec(&fleet, &["--durable"], "seq 1 3000000").paused_output().spawn();
    let id = eventually(SOON, "its record", || journalled(&fleet, "open").pop());
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 0}}));
    slow.stdout.resume();
    let said = slow.wait(SOON).expect_code(251).err();
    assert!(said.contains("output was lost: ") && said.contains(" bytes of stdout are lost"), "{said}");
}

#[test]
fn on_a_full_disk_the_command_waits_and_nothing_is_lost() {
    let fleet = Fleet::builder().start();
    let disk = SmallDisk::at(&fleet.directory("state-w1"));
    fleet.add(DaemonOptions::worker("w1").configuration("[jobs]\nlog_limit = \"768KiB\"\n"));
    // More than a pipe and a shim hold, and less than the disk.
    let line = "echo on; until [ -e go ]; do sleep 0.02; done; seq 1 100000; touch after; exit 7";
    let id = start(&fleet, line);
    let watch = Watch::attach(&fleet, &id, AttachFrom::Start);
    watch.until("its first word", |heard| heard.out == b"on\n");
    disk.fill();
    std::fs::write(fleet.path().join("go"), "").unwrap();
    let after = fleet.path().join("after");
    never(Duration::from_secs(1), "the command went on", || after.exists().then_some(()));
    let listed = eventually(SOON, "it to say what it waits for", || {
        let listed = fleet.command(["jobs", "w1"]).run().expect_success();
        listed.out().contains("waits for disk").then(|| fleet.command(["jobs", "w1", "--json"]).run().out())
    });
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert!(listed["waits_for_disk"].as_str().unwrap().contains("No space"), "{listed}");
    let mut waiting = fleet.command(["wait", &format!("w1/{id}")]).spawn();
    waiting.stderr_line(SOON, |line| line.contains("waits for room on the disk of w1"));
    let refused = exec(&fleet, &["-d"], "echo ran >> ran").run().expect_code(250);
    assert!(refused.err().contains("journal cannot be written"), "{refused:?}");
    disk.free();
    waiting.wait(SOON).expect_code(7);
    let heard = watch.end();
    assert_eq!(heard.code(), Some(7), "{:?}", heard.outcome);
    let whole = std::process::Command::new("seq").args(["1", "100000"]).output().unwrap().stdout;
    assert!(heard.out == [b"on\n".as_slice(), &whole].concat());
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 7}}));
    assert!(after.exists() && !fleet.path().join("ran").exists());
}

#[test]
fn on_a_full_disk_a_job_can_be_stopped() {
    let fleet = Fleet::builder().start();
    let disk = SmallDisk::at(&fleet.directory("state-w1"));
    fleet.add(DaemonOptions::worker("w1").configuration("[jobs]\nlog_limit = \"256KiB\"\n"));
    let counter = Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    Watch::attach(&fleet, &id, AttachFrom::Start).expect_more();
    disk.fill();
    let mut raw = Raw::connect(&fleet.url());
    let answer = raw.request(&format!("exec.w1.{id}.cancel"), r#"{"why":"enough"}"#, SOON).json();
    assert_eq!(answer["answer"], "running", "{answer}");
    procs::wait_until_job_gone(&id, SOON);
    // How it ended is told when that can be written.
    disk.free();
    assert_eq!(ending(&fleet, &id), json!({"cancelled": {"why": "enough"}}));
}
