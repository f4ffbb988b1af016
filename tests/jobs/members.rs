//! In a fleet with identities operators alone see and steer jobs, whoever asks and however.

use peerbus::bus::{AddressPolicy, Bus, Credentials, ReconnectPolicy, Settings};
use peerbus::client::control::{self, ControlError};
use peerbus::client::jobs;
use peerbus::client::policy::PolicyQueryError;
use peerbus::protocol::PeerId;
use peerbus::protocol::identity::Standing;
use peerbus::protocol::jobs::{JobFilter, JobQuery};
use serde_json::json;

use crate::bench::{SOON, all_are_known, ids, listed, short};
use crate::harness::fleet::Fleet;
use crate::harness::secured::OPERATOR;
use crate::harness::wait::eventually;

#[test]
fn operators_list_and_stop_and_others_do_not() {
    let fleet = Fleet::builder().secured().leader("lead").worker("w1").start();
    all_are_known(&fleet, 2);
    let mut d = fleet.spawn_d(["exec", "w1", "-C", "/", "--", "sleep", "1000"]);
    let job = eventually(SOON, "the job", || listed(&fleet, &[]).into_iter().next());
    assert_eq!(job["principal"], json!(OPERATOR), "{job}");
    let id = job["id"].as_str().unwrap();
    for (name, standing, code, said) in [
        ("w7", Standing::Worker, 2, "w7 (worker), and d acts for a person"),
        (
            "ines",
            Standing::Inspector,
            250,
            "refused: only operators may see the jobs, and ines (inspector) is none",
        ),
    ] {
        for arguments in [&["jobs"][..], &["jobs", "w1"], &["stop", id], &["wait", id]] {
            let refused = fleet.command_as(name, standing, arguments).run().expect_code(code);
            assert!(refused.out().is_empty() && refused.err().contains(said), "{refused:?}");
        }
    }
    // Another operator may, whoever has started it.
    let other = |arguments: &[&str]| fleet.command_as("bob", Standing::Operator, arguments).run();
    assert!(other(&["jobs"]).expect_success().out().contains(short(id)));
    other(&["stop", id, "--signal", "CONT"]).expect_success();
    other(&["stop", short(id)]).expect_success();
    d.wait(SOON).expect_code(130);
    assert_eq!(ids(&listed(&fleet, &["-a"])), [id]);
}

/// The daemon itself refuses, where the server would let everybody through and `d` is not asked.
#[test]
fn a_daemon_shows_its_jobs_to_operators_alone() {
    let fleet = Fleet::builder().secured().open_broker().worker("w1").start();
    let mut d = fleet.spawn_d(["exec", "w1", "-C", "/", "--", "sleep", "1000"]);
    let job = eventually(SOON, "the job", || listed(&fleet, &["w1"]).into_iter().next());
    let id = job["id"].as_str().unwrap().parse().unwrap();
    let session = ["session", "new", "-d", "--name", "theirs", "w1", "--", "sleep", "1000"];
    let session = fleet.d(session).expect_success().out().trim().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let w1: PeerId = "w1".parse().unwrap();
    for (name, standing) in [("w7", Standing::Worker), ("ines", Standing::Inspector)] {
        let file = fleet.secured().member(name, standing);
        runtime.block_on(async {
            let settings = Settings {
                address: fleet.url().parse().unwrap(),
                credentials: Credentials::from_file(&file).unwrap(),
                reach: AddressPolicy::Anywhere,
                name: name.to_owned(),
            };
            let bus = Bus::open(settings, ReconnectPolicy::FirstAttemptCounts);
            bus.connected(SOON).await.unwrap();
            let query = JobQuery { state: JobFilter::All, ..JobQuery::default() };
            match jobs::page(&bus, &w1, &query, SOON).await {
                Err(PolicyQueryError::Declined(why)) => {
                    assert!(why.contains("only operators may see the jobs"), "{why}")
                }
                other => panic!("{name}: {other:?}"),
            }
            for signalled in [
                control::signal(&bus, &w1, id, "TERM", SOON).await,
                control::stop(&bus, &w1, id, "mischief", SOON).await.map(drop),
                control::rename(&bus, &w1, id, None, "mine", SOON).await.map(drop),
                control::detach(&bus, &w1, id, name, SOON).await.map(drop),
                control::rename(&bus, &w1, session, Some("theirs"), "mine", SOON).await.map(drop),
                control::detach(&bus, &w1, session, name, SOON).await.map(drop),
            ] {
                match signalled {
                    Err(ControlError::Declined(why)) => {
                        assert!(why.contains("another caller's job") || why.contains("this job of"), "{why}")
                    }
                    other => panic!("{name}: {other:?}"),
                }
            }
        });
    }
    assert_eq!(listed(&fleet, &["w1"])[0]["state"], "running");
    fleet.d(["stop", &format!("w1/{id}")]).expect_success();
    d.wait(SOON).expect_code(130);
}
