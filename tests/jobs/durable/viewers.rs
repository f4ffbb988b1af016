//! Many who read one job, each at its own pace.

use peerbus::protocol::attach::AttachFrom;
use serde_json::json;

use crate::durable::bench::{SOON, Watch, ending, result, start};
use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;

/// More than all windows together let through: the output of `seq 1 LAST`.
const LAST: u32 = 700_000;

fn sequence() -> Vec<u8> {
    std::process::Command::new("seq").args(["1", &LAST.to_string()]).output().unwrap().stdout
}

#[test]
fn one_that_reads_nothing_holds_up_neither_the_job_nor_the_others() {
    let fleet = Fleet::of_workers(["w1"]);
    let id = start(&fleet, &format!("until [ -e go ]; do sleep 0.02; done; seq 1 {LAST}"));
    let mut stopped = Raw::connect(&fleet.url());
    let inbox = stopped.new_inbox();
    let heard = stopped.subscribe(&inbox);
    let attach = json!({"epoch": 1, "from": "start", "window": 4096}).to_string();
    stopped.publish_reply(&format!("exec.w1.{id}.attach"), &inbox, attach);
    let first = stopped.expect_on(heard, SOON, "its first frame");
    assert_eq!((first.header("D-Kind"), &first.json()["durable"]), (Some("accepted"), &json!(true)));
    let others: Vec<Watch> = (0..4).map(|_| Watch::attach(&fleet, &id, AttachFrom::Start)).collect();
    for watch in &others {
        watch.until("the job", |heard| heard.accepted.is_some());
    }
    std::fs::write(fleet.path().join("go"), "").unwrap();
    let wanted = sequence();
    for watch in &others {
        let heard = watch.end();
        assert_eq!(heard.code(), Some(0), "{:?}", heard.outcome);
        assert!(heard.out == wanted);
    }
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 0}}));
    let mut bytes = 0;
    while let Some(frame) = stopped.next_on(heard, std::time::Duration::from_millis(300)) {
        assert_ne!(frame.header("D-Kind"), Some("result"), "nothing comes after what it has not asked for");
        bytes += if frame.header("D-Kind") == Some("out") { frame.payload.len() } else { 0 };
    }
    assert_eq!(bytes, 4096, "what it has granted, and no more");
}

#[test]
fn a_viewer_that_is_gone_is_dropped_and_the_job_goes_on() {
    let fleet = Fleet::of_workers(["w1"]);
    let counter = crate::durable::bench::Counter::new(&fleet, "c");
    let id = start(&fleet, &counter.line());
    let mut gone = Raw::connect(&fleet.url());
    let inbox = gone.new_inbox();
    let heard = gone.subscribe(&inbox);
    let attach = json!({"epoch": 1, "from": "now", "window": 1 << 20}).to_string();
    gone.publish_reply(&format!("exec.w1.{id}.attach"), &inbox, attach);
    gone.expect_on(heard, SOON, "its first frame");
    let viewers = || {
        let page = Raw::connect(&fleet.url()).request("exec.w1.jobs", "{}", SOON).json();
        page["jobs"][0]["viewers"].as_u64()
    };
    assert_eq!(viewers(), Some(1));
    drop(gone);
    crate::harness::wait::eventually(SOON, "the viewer to be dropped", || {
        (viewers() == Some(0)).then_some(())
    });
    counter.stop();
    assert_eq!(ending(&fleet, &id), json!({"exited": {"code": 7}}));
    assert!(result(&fleet, &id).json()["out"]["bytes"].as_u64() > Some(0));
}
