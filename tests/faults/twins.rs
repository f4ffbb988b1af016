//! Two daemons where there may be one.

use crate::bench::{SOON, exec, job_id, plain, refusal, request};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::relay::Relay;
use crate::harness::server::ServerOptions;
use crate::harness::wait::eventually;

#[test]
fn the_second_daemon_of_an_id_says_who_holds_it_and_goes() {
    let fleet = Fleet::of_workers(["w1"]);
    let second = fleet.add_starting(DaemonOptions::worker("w1").state("second"));
    let finished = second.wait_for_end(SOON).expect_code(75);
    let said = finished.err().lines().find(|line| line.starts_with("d: ")).unwrap_or_default().to_owned();
    assert!(said.contains("the peer id w1 is held by another daemon on "), "{finished:?}");
    assert_eq!(exec(&fleet, "echo on").run().expect_success().out(), "on\n");
}

#[test]
fn the_second_daemon_of_a_state_directory_says_who_holds_it_and_goes() {
    let fleet = Fleet::of_workers(["w1"]);
    let first = fleet.daemon("w1");
    for id in ["w1", "w2"] {
        let second = fleet.add_starting(DaemonOptions::worker(id).state("w1"));
        let finished = second.wait_for_end(SOON).expect_code(75);
        let holder = format!("is held by process {}", first.pid());
        assert!(finished.err().contains(&holder), "{finished:?}");
    }
    assert_eq!(exec(&fleet, "echo on").run().expect_success().out(), "on\n");
    // The state file is still the first one's.
    let state = std::fs::read_to_string(first.state_directory().join("state.json")).unwrap();
    assert!(state.contains(&format!("\"pid\":{}", first.pid())) && state.contains("\"ready\""), "{state}");
}

#[test]
fn two_that_meet_later_both_refuse_until_one_has_gone() {
    let fleet = Fleet::builder().daemon(DaemonOptions::worker("w1").through_relay()).start();
    let first = fleet.daemon("w1");
    first.relay().cut();
    let second = fleet.add(DaemonOptions::worker("w1").state("second"));
    assert_eq!(plain(&fleet, "echo alone").json()["stdout"], "alone\n");
    first.relay().heal();
    for daemon in [&first, &second] {
        daemon.wait_for_line(SOON, |line| line.contains("another daemon answers for our id"));
    }
    for _ in 0..20 {
        let answer = plain(&fleet, "echo ran >> ran");
        assert_eq!(refusal(&answer).as_deref(), Some("conflict"), "{answer:?}");
    }
    let finished = exec(&fleet, "echo ran >> ran").run().expect_code(250);
    assert!(finished.err().contains("another daemon answers for the peer w1"), "{finished:?}");
    second.terminate().expect_success();
    first.wait_for_line(SOON * 2, |line| line.contains("alone again"));
    let answer = eventually(SOON, "work to be taken again", || {
        let answer = plain(&fleet, "echo again");
        refusal(&answer).is_none().then_some(answer)
    });
    assert_eq!(answer.json()["stdout"], "again\n");
    assert!(!fleet.path().join("ran").exists());
}

/// A port nobody listens on.
fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Neither has a new connection then: only a look from time to time finds the other.
#[test]
fn two_on_servers_that_are_joined_later_both_refuse() {
    let port = free_port();
    let between = Relay::to(([127, 0, 0, 1], port).into());
    between.cut();
    let cluster = |port: u16, routes: &str| {
        let rest = "no_advertise: true, connect_retries: 1000";
        let place = format!("name: pb, listen: \"127.0.0.1:{port}\"");
        ServerOptions::new().configuration(&format!("cluster {{ {place}, routes: [{routes}], {rest} }}"))
    };
    let fleet = Fleet::builder().server(cluster(port, "")).worker("w1").start();
    let route = format!("\"nats-route://{}\"", between.address());
    let elsewhere = cluster(free_port(), &route).start();
    let first = fleet.daemon("w1");
    let second = fleet.add(DaemonOptions::worker("w1").state("second").nats(&elsewhere.url()));
    between.heal();
    for daemon in [&first, &second] {
        // They look every 15 s.
        daemon.wait_for_line(SOON * 2, |line| line.contains("another daemon answers for our id"));
    }
    for url in [fleet.url(), elsewhere.url()] {
        let request = request(&fleet, &job_id(), "echo ran >> ran").to_string();
        let answer = Raw::connect(&url).request("exec.w1", request, SOON);
        assert_eq!(refusal(&answer).as_deref(), Some("conflict"), "{answer:?}");
    }
    assert!(!fleet.path().join("ran").exists());
}
