//! A machine becomes a peer with one command, and another one with the next.

use std::path::PathBuf;
use std::time::Duration;

use crate::harness::fleet::{DCommand, Fleet};

const SOON: Duration = Duration::from_secs(20);

/// A machine without a daemon, beside a fleet, and cleared away with it.
struct Machine<'a> {
    fleet: &'a Fleet,
    home: PathBuf,
}

impl<'a> Machine<'a> {
    fn beside(fleet: &'a Fleet) -> Self {
        Self { fleet, home: fleet.directory("machine") }
    }

    fn d(&self, words: &[&str]) -> DCommand {
        DCommand::new(&self.home, words)
            .env("PEERBUS_STATE_DIR", self.home.join("state"))
            .deadline(Duration::from_secs(60))
    }

    fn address(&self) -> String {
        self.fleet.server().address().to_string()
    }
}

#[test]
fn joining_starts_a_daemon_that_the_leader_hears() {
    let fleet = Fleet::builder().leader("lead").start();
    let machine = Machine::beside(&fleet);
    let joined = machine.d(&["join", &machine.address(), "--id", "new"]).run().expect_success();
    assert_eq!(joined.out(), "joined as new; the leader at 127.0.0.1 hears it\n");
    fleet.wait_for_states(&[("lead", "online"), ("new", "online")], SOON);
    let there = fleet.d(["exec", "new", "-C", "/", "--", "echo", "hello"]).expect_success();
    assert_eq!(there.out(), "hello\n");
    // Again is no mistake, and leaves the daemon that runs alone.
    let instance = fleet.peer("new")["instance"].clone();
    machine.d(&["join", &machine.address(), "--id", "new"]).run().expect_success();
    assert_eq!(fleet.peer("new")["instance"], instance);
    // Another id is another peer, and the old one leaves.
    machine.d(&["setPeerConfig", "--id", "newer"]).run().expect_success();
    fleet.wait_for_states(&[("lead", "online"), ("new", "offline"), ("newer", "online")], SOON);
    // A leader that is not there is no reason to end a daemon that works.
    let said = machine.d(&["setPeerConfig", "--leader", "127.0.0.1:1"]).run().expect_code(255);
    let wanted = "Peer config saved. Failed to connect to leader at 127.0.0.1 (will retry on next command)";
    assert_eq!(said.err().lines().next(), Some(wanted));
    fleet.d(["exec", "newer", "-C", "/", "--", "true"]).expect_success();
    machine.d(&["daemon", "stop"]).run().expect_success();
    fleet.wait_for_states(&[("lead", "online"), ("new", "offline"), ("newer", "offline")], SOON);
}

/// Somebody sees its log there, and would find it ended.
#[test]
fn a_daemon_in_a_terminal_is_left_to_whoever_runs_it() {
    let fleet = Fleet::builder().leader("lead").start();
    let machine = Machine::beside(&fleet);
    machine.d(&["config", "set", "nats", &fleet.server().url()]).run().expect_success();
    let mut live = machine.d(&["daemon", "run", "--id", "by-hand"]).spawn();
    live.stderr_line(SOON, |line| line.starts_with("ready peer=by-hand"));
    let said = machine.d(&["setPeerConfig", "--id", "new"]).run().expect_code(1);
    let wanted = format!("in the foreground, process {}, has peer id by-hand, not new", live.pid());
    assert!(said.err().contains(&wanted), "{said:?}");
    assert!(live.ended().is_none());
    fleet.d(["exec", "by-hand", "-C", "/", "--", "true"]).expect_success();
    live.signal(nix::sys::signal::Signal::SIGTERM);
    live.wait(SOON).expect_success();
}

/// It would be saved and have no effect.
#[test]
fn what_the_environment_overrules_is_not_saved() {
    let fleet = Fleet::builder().leader("lead").start();
    let machine = Machine::beside(&fleet);
    let address = machine.address();
    for (name, value, words) in [
        ("PEERBUS_PEER_ID", "other", &["join", &address, "--id", "wished-for"][..]),
        ("PEERBUS_PEER_ID", "other", &["setPeerConfig", "--id", "wished-for"]),
        ("PEERBUS_ROLE", "leader", &["setPeerConfig", "--id", "wished-for", "--role", "worker"]),
    ] {
        let said = machine.d(words).env(name, value).run().expect_code(2);
        assert!(said.err().contains(&format!("{name}={value} in the environment goes before")), "{said:?}");
        let shown = machine.d(&["config", "show"]).run();
        assert!(!shown.out().contains("wished-for"), "{shown:?}");
    }
}

#[test]
fn registering_does_the_same_under_the_hostname() {
    // No machine that runs this is called as its leader is.
    let fleet = Fleet::builder().leader("leader-of-this-test").start();
    let machine = Machine::beside(&fleet);
    let hostname = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let id = peerbus::protocol::PeerId::from_hostname(&hostname).unwrap().to_string();
    machine.d(&["config", "set", "nats", &fleet.server().url()]).run().expect_success();
    let said = machine.d(&["registerWorker"]).run().expect_success();
    assert_eq!(said.out(), format!("Registered as worker '{id}', connected to leader at 127.0.0.1\n"));
    fleet.wait_for_states(&[("leader-of-this-test", "online"), (&id, "online")], SOON);
    machine.d(&["daemon", "stop"]).run().expect_success();
}

#[test]
fn a_leader_that_is_away_is_joined_when_it_is_back() {
    let fleet = Fleet::builder().leader("lead").start();
    fleet.daemon("lead").terminate();
    let machine = Machine::beside(&fleet);
    let joined = machine.d(&["join", &machine.address(), "--id", "new"]).run().expect_code(255);
    assert!(
        joined.err().contains("d: saved as new, but the leader at 127.0.0.1 does not hear it: "),
        "{joined:?}"
    );
    fleet.daemon("lead").restart();
    fleet.wait_for_states(&[("lead", "online"), ("new", "online")], SOON);
    machine.d(&["daemon", "stop"]).run().expect_success();
}

#[test]
fn a_bus_that_is_away_leaves_no_daemon_behind() {
    let fleet = Fleet::builder().start();
    let machine = Machine::beside(&fleet);
    fleet.server().kill();
    let joined = machine.d(&["join", &machine.address(), "--id", "wished-for"]).run().expect_code(255);
    assert!(
        joined.err().starts_with("d: saved as wished-for, but the leader at 127.0.0.1 does not hear it: "),
        "{joined:?}"
    );
    let saved = machine.d(&["config", "show"]).run().expect_success().out();
    assert!(saved.contains("wished-for") && saved.contains(&machine.address()), "{saved}");
    machine.d(&["daemon", "status"]).run().expect_code(3);
    machine.d(&["join"]).run().expect_code(2);
    machine.d(&["join", "not a host"]).run().expect_code(2);
}
