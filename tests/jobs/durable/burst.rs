//! Many more jobs asked for at once than there may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;

use nix::sys::stat::Mode;
use serde_json::{Value, json};

use crate::durable::bench::{SOON, ending, job_id, lines, read_all, request};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::server::ServerOptions;

/// As many as there may be.
const MOST: usize = 40;

/// As many as are asked for.
const ASKED: usize = 60;

/// What the server takes at once: much less than a list of all jobs.
const MAX_PAYLOAD: usize = 32 << 10;

/// The ids of the jobs that `d jobs` shows to run.
#[track_caller]
fn running(fleet: &Fleet) -> BTreeSet<String> {
    let listed = fleet.d(["jobs", "w1", "--json"]).expect_success().out();
    let jobs = listed.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    jobs.filter(|job| job["state"] == "running").map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn of_a_burst_as_many_run_to_their_end_as_may_be_and_all_others_are_refused() {
    let options = DaemonOptions::worker("w1").configuration(&format!("[jobs]\nmost = {MOST}\n"));
    let fleet =
        Fleet::builder().server(ServerOptions::new().max_payload(MAX_PAYLOAD)).daemon(options).start();
    let gate = fleet.path().join("gate");
    nix::unistd::mkfifo(&gate, Mode::S_IRWXU).unwrap();
    let mut gate = File::options().read(true).write(true).open(gate).unwrap();

    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    let sid = raw.subscribe(&inbox);
    let ids: Vec<String> = (0..ASKED).map(|_| job_id()).collect();
    for (number, id) in ids.iter().enumerate() {
        let line = format!(
            "echo ran >> ran-{number}; echo begin {number}; read -r _ < gate; seq {number}; echo end >&2; \
             exit {number} # {}",
            "so long that all of them are not listed at once ".repeat(20)
        );
        raw.publish_reply("exec.w1", &inbox, request(&fleet, id, &line).to_string());
    }
    let mut started = BTreeMap::new();
    for _ in 0..ASKED {
        let answer = raw.expect_on(sid, 2 * SOON, "an answer").json();
        let number = ids.iter().position(|id| answer["id"] == **id).expect("one of them");
        if answer["type"] == "peerbus.started.v1" {
            started.insert(ids[number].clone(), number);
            continue;
        }
        let why = &answer["ending"]["refused"];
        assert_eq!(why["why"], "limit", "{answer}");
        assert_eq!(why["message"], format!("w1 runs {MOST} durable jobs at once and no more"));
    }
    assert_eq!(started.len(), MOST);
    let all: BTreeSet<String> = started.keys().cloned().collect();
    assert_eq!(running(&fleet), all);

    let daemon = fleet.daemon("w1");
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    assert_eq!(running(&fleet), all, "all are adopted");
    // A line for each: who reads takes one.
    gate.write_all(&[b'\n'; ASKED]).unwrap();
    for (id, number) in &started {
        assert_eq!(ending(&fleet, id), json!({"exited": {"code": number}}));
        let heard = read_all(&fleet, id);
        let counted: String = (1..=*number).map(|count| format!("{count}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&heard.out), format!("begin {number}\n{counted}"));
        assert_eq!((heard.err.as_slice(), heard.code()), (b"end\n".as_slice(), i32::try_from(*number).ok()));
    }
    for (number, id) in ids.iter().enumerate() {
        let runs = usize::from(started.contains_key(id));
        assert_eq!(lines(&fleet.path().join(format!("ran-{number}"))), runs, "{number}");
    }
    let left = peerbus::process::job_scopes_of(daemon.state_directory()).unwrap();
    assert!(left.is_empty(), "cgroups of jobs that have ended: {left:?}");
    daemon.terminate().expect_success();
    let left = peerbus::process::cgroups_of(daemon.state_directory()).unwrap();
    assert!(left.is_empty(), "cgroups of a daemon that was stopped: {left:?}");
}
