//! Servers with and without JetStream.

use std::fs;

use crate::harness::fleet::{DaemonOptions, Fleet};
use serde_json::Value;

use crate::harness::nats::Raw;
use crate::harness::server;
use crate::harness::wait::eventually;
use crate::queue::scene::{SOON, Scene, wait_until};

#[test]
fn a_server_without_jetstream_is_said() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    wait_until(&fleet, "online");
    for words in [&["exec", "--queue", "w1", "-C", "/", "--", "true"][..], &["queue", "list"]] {
        let refused = fleet.d(words).expect_code(255);
        let said = refused.err();
        assert!(said.contains("has no JetStream") && said.contains("jetstream { store_dir:"), "{said}");
        assert_eq!(refused.out(), "");
    }
    // Everything else goes on, and nobody complains.
    assert_eq!(fleet.d(["exec", "w1", "-C", "/", "--", "echo", "ran"]).expect_success().out(), "ran\n");
    assert!(!fleet.daemon("w1").stderr().contains("queue"), "{}", fleet.daemon("w1").stderr());
}

#[test]
fn without_a_leader_there_is_no_queue_and_that_is_said() {
    let options = server::ServerOptions::new().jetstream();
    let fleet = Fleet::builder().server(options).worker("w1").start();
    let refused = fleet.d(["exec", "--queue", "w1", "-C", "/", "--", "true"]).expect_code(255);
    assert!(refused.err().contains("no leader has made the queue"), "{}", refused.err());
}

#[test]
fn the_managed_broker_has_one_that_is_bounded() {
    let fleet = Fleet::builder().start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("nats://{free}");
    let leader = DaemonOptions::leader("lead").nats(&url);
    let leader = leader.flag("--broker").flag("managed").flag("--broker-listen").flag(free.to_string());
    let lead = fleet.add(leader.env("PEERBUS_NATS_SERVER", server::program()));
    let written = fs::read_to_string(lead.state_directory().join("broker/nats-server.conf")).unwrap();
    let store = lead.state_directory().join("broker/jetstream");
    let line = format!(
        "jetstream {{ store_dir: {store:?}, max_memory_store: 64MB, max_file_store: 1GB, sync_interval: always }}"
    );
    assert!(written.contains(&line), "{written}");
    let mark = fleet.path().join("ran");
    let touch = format!("touch '{}'", mark.display());
    let done = eventually(SOON, "the queue to be there", || {
        let done = fleet.command_on("lead", ["exec", "--queue", "lead", "-C", "/", "--sh", &touch]).run();
        (done.code() == Some(0)).then_some(done)
    });
    assert!(done.err().contains("takes it as soon as it can"), "{}", done.err());
    eventually(SOON, "the leader to run it", || mark.exists().then_some(()));
}

#[test]
fn the_leader_keeps_the_queue_as_it_has_to_be() {
    let scene = Scene::new();
    let mut raw = Raw::connect(&scene.fleet.url());
    let ask = |raw: &mut Raw, what: &str, config: &Value| {
        let answer = raw.request(&format!("$JS.API.STREAM.{what}.QUEUE"), config.to_string(), SOON).json();
        assert!(answer["error"].is_null(), "{answer}");
        answer["config"].clone()
    };
    let was = eventually(SOON, "the queue", || {
        let config = raw.request("$JS.API.STREAM.INFO.QUEUE", "", SOON).json()["config"].clone();
        config.is_object().then_some(config)
    });
    let mut changed = was.clone();
    changed["max_msgs"] = 7.into();
    changed["description"] = "ours".into();
    assert_eq!(ask(&mut raw, "UPDATE", &changed)["max_msgs"], 7);
    let is_right = |raw: &mut Raw| {
        let now = ask(raw, "INFO", &Value::Null);
        (now["max_msgs"] == was["max_msgs"]).then_some(now)
    };
    let now = eventually(SOON, "it to be put right", || is_right(&mut raw));
    assert_eq!(now["description"], "ours", "what else was set stays");
    // Taken away, it is made again, with the consumers of those that something waits for.
    raw.request("$JS.API.STREAM.DELETE.QUEUE", "", SOON);
    scene.wait_for_queue();
    let job = scene.leave();
    scene.have_run(&[&job]);
}

#[test]
fn a_stream_of_somebody_elses_is_left_alone() {
    let fleet = Fleet::builder().server(server::ServerOptions::new().jetstream()).worker("w1").start();
    let mut raw = Raw::connect(&fleet.url());
    let theirs = r#"{"name":"QUEUE","subjects":["orders.>"]}"#;
    raw.request("$JS.API.STREAM.CREATE.QUEUE", theirs, SOON);
    let lead = fleet.add(DaemonOptions::leader("lead"));
    lead.wait_for_line(SOON, |line| {
        line.contains("a stream QUEUE of somebody else's") && line.contains("orders.>")
    });
    wait_until(&fleet, "online");
    let refused = fleet.d(["exec", "--queue", "w1", "-C", "/", "--", "true"]);
    assert_eq!((refused.code(), refused.out().as_str()), (Some(255), ""), "{}", refused.err());
    let info = raw.request("$JS.API.STREAM.INFO.QUEUE", "", SOON).json();
    assert_eq!((&info["config"]["subjects"][0], &info["state"]["messages"]), (&"orders.>".into(), &0.into()));
}

#[test]
fn a_server_without_the_room_is_said() {
    // The server has room for less than the queue may have: the leader cannot make it, and that is said.
    let options = server::ServerOptions::new().configuration("jetstream { max_file_store: 1MB }");
    let fleet = Fleet::builder().server(options).leader("lead").worker("w1").start();
    fleet
        .daemon("lead")
        .wait_for_line(SOON, |line| line.contains("making the queue") && line.contains("storage"));
    wait_until(&fleet, "online");
    let refused = fleet.d(["exec", "--queue", "w1", "-C", "/", "--", "true"]).expect_code(255);
    assert!(refused.err().contains("no leader has made the queue"), "{}", refused.err());
}

#[test]
fn a_queue_that_is_full_takes_no_more_and_loses_nothing() {
    let scene = Scene::new();
    let mut raw = Raw::connect(&scene.fleet.url());
    let mut config = eventually(SOON, "the queue", || {
        let config = raw.request("$JS.API.STREAM.INFO.QUEUE", "", SOON).json()["config"].clone();
        config.is_object().then_some(config)
    });
    // A leader that stands still neither puts that right nor lets w1 fetch.
    scene.fleet.daemon("lead").freeze();
    config["max_msgs"] = 1.into();
    let changed = raw.request("$JS.API.STREAM.UPDATE.QUEUE", config.to_string(), SOON).json();
    assert_eq!(changed["config"]["max_msgs"], 1, "{changed}");
    let job = scene.leave();
    let refused = scene.fleet.d(["exec", "--queue", "w1", "-C", "/", "--", "true"]).expect_code(250);
    assert!(refused.err().contains("the queue takes no more"), "{}", refused.err());
    assert_eq!(refused.out(), "");
    assert_eq!(scene.listed().len(), 1);
    scene.fleet.daemon("lead").thaw();
    scene.have_run(&[&job]);
}
