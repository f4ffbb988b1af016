//! Servers with and without JetStream.

use std::fs;

use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::server;
use crate::harness::wait::eventually;
use crate::scene::SOON;

#[test]
fn a_server_without_jetstream_is_said() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    crate::scene::wait_until(&fleet, "online");
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
