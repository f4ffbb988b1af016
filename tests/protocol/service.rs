//! The services API: what `nats micro ls`, `info` and `stats` ask, and pings.

use serde_json::{Value, json};

use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;
use crate::talk::{A_WHILE, SOON, plain};

/// What so many say to a question, and nobody else.
#[track_caller]
fn asked(raw: &mut Raw, subject: &str, count: usize) -> Vec<Value> {
    let inbox = raw.new_inbox();
    let sid = raw.subscribe(&inbox);
    raw.publish_reply(subject, &inbox, "");
    let what = format!("an answer to {subject}");
    let answers = (0..count).map(|_| raw.expect_on(sid, SOON, &what).json()).collect();
    // Where nobody hears it, the server says so, and nothing else can come.
    let more = raw.next_on(sid, A_WHILE).filter(|answer| count > 0 || !answer.is_no_responders());
    assert!(more.is_none(), "{subject}: {more:?} beside {answers:?}");
    raw.unsubscribe(sid);
    answers
}

fn of_peer<'a>(documents: &'a [Value], peer: &str) -> &'a Value {
    documents.iter().find(|one| one["metadata"]["peer"] == peer).expect("the peer answers")
}

#[test]
fn the_fleet_answers_the_services_api() {
    let fleet = Fleet::of_workers(["w1", "w2"]);
    let mut raw = Raw::connect(&fleet.url());
    let beat = raw.request("exec.w1.ping", "", SOON).json();
    assert_eq!((&beat["type"], &beat["peer_id"]), (&json!("peerbus.heartbeat.v1"), &json!("w1")));
    let instance = beat["instance"].as_str().unwrap().to_owned();
    for (verb, kind) in [("PING", "ping"), ("INFO", "info"), ("STATS", "stats")] {
        for subject in [format!("$SRV.{verb}"), format!("$SRV.{verb}.exec")] {
            let all = asked(&mut raw, &subject, 2);
            let one = of_peer(&all, "w1");
            assert_eq!(one["type"], format!("io.nats.micro.v1.{kind}_response"), "{one}");
            assert_eq!((&one["name"], &one["id"]), (&json!("exec"), &json!(instance)), "{one}");
            assert!(one["version"].as_str().unwrap().split('.').count() == 3, "{one}");
            for key in ["peer", "hostname", "os", "version"] {
                assert!(one["metadata"][key].is_string(), "{key} of {one}");
            }
        }
        let own = asked(&mut raw, &format!("$SRV.{verb}.exec.{instance}"), 1);
        assert_eq!(own[0]["metadata"]["peer"], "w1");
        for other in [format!("$SRV.{verb}.other"), format!("$SRV.{verb}.exec.{}", uuid::Uuid::new_v4())] {
            asked(&mut raw, &other, 0);
        }
    }
    asked(&mut raw, "$SRV.DANCE", 0);
}

#[test]
fn info_and_stats_have_what_the_tools_show() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut raw = Raw::connect(&fleet.url());
    let info = asked(&mut raw, "$SRV.INFO.exec", 1);
    assert!(info[0]["description"].is_string(), "{info:?}");
    let endpoint = &info[0]["endpoints"][0];
    let said = (&endpoint["name"], &endpoint["subject"], &endpoint["queue_group"]);
    assert_eq!(said, (&json!("exec"), &json!("exec.w1"), &json!("exec")), "{endpoint}");
    let numbers = |raw: &mut Raw| {
        let stats = asked(raw, "$SRV.STATS.exec", 1).remove(0);
        assert!(stats["started"].as_str().unwrap().ends_with('Z'), "{stats}");
        let endpoint = stats["endpoints"][0].clone();
        (endpoint["num_requests"].as_u64().unwrap(), endpoint["num_errors"].as_u64().unwrap(), endpoint)
    };
    assert_eq!((numbers(&mut raw).0, numbers(&mut raw).1), (0, 0));
    raw.request("exec.w1", plain(fleet.path(), "sleep 0.05").to_string(), SOON);
    raw.request("exec.w1", "no JSON", SOON);
    let (requests, errors, endpoint) = numbers(&mut raw);
    assert_eq!((requests, errors), (2, 1), "{endpoint}");
    assert!(endpoint["last_error"].as_str().unwrap().contains("JSON"), "{endpoint}");
    assert!(endpoint["processing_time"].as_u64().unwrap() >= 50_000_000, "{endpoint}");
    assert!(endpoint["average_processing_time"].as_u64().unwrap() >= 20_000_000, "{endpoint}");
}
