//! What concerns a machine itself: `setPeerConfig`, `registerWorker`, `dbSanityCheck`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::fleet::{DCommand, DaemonOptions, Fleet};
use crate::harness::scratch::Scratch;

const SOON: Duration = Duration::from_secs(30);

/// A machine without a daemon, a bus or a configuration.
struct Machine {
    scratch: Scratch,
    configuration: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let scratch = Scratch::new();
        let configuration = scratch.path().join("etc/config.toml");
        Self { scratch, configuration }
    }

    fn d(&self, words: &[&str]) -> DCommand {
        DCommand::new(self.scratch.path(), words)
            .env("PEERBUS_CONFIG", &self.configuration)
            .env("PEERBUS_STATE_DIR", self.scratch.path().join("state"))
            .env_remove("NATS_URL")
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.configuration).unwrap_or_default()
    }
}

#[test]
fn each_setting_is_saved_and_the_others_stay() {
    let machine = Machine::new();
    // The file need not be there yet, although it was named.
    for (words, said) in [
        (vec!["--role", "leader", "--id", "desktop"], "Peer config saved. Role: leader, ID: desktop\n"),
        (vec!["--id", "tower"], "Peer config saved. Role: leader, ID: tower\n"),
        (vec!["--role", "worker"], "Peer config saved. Role: worker, ID: tower\n"),
        (vec![], "Peer config saved. Role: worker, ID: tower\n"),
    ] {
        let words: Vec<&str> = std::iter::once("setPeerConfig").chain(words).collect();
        let done = machine.d(&words).run().expect_success();
        assert_eq!((done.out().as_str(), done.err().as_str()), (said, ""), "{words:?}");
    }
    assert_eq!(machine.text(), "role = \"worker\"\npeer_id = \"tower\"\n");
}

#[test]
fn a_wish_with_a_mistake_saves_nothing() {
    let machine = Machine::new();
    machine.d(&["setPeerConfig", "--role", "worker", "--id", "vps"]).run().expect_success();
    let before = machine.text();
    for (words, said) in [
        (["--id", "new", "--role", "boss"], "Invalid role. Use 'leader' or 'worker'."),
        (["--id", "new", "--role", ""], "Invalid role. Use 'leader' or 'worker'."),
        (["--role", "leader", "--id", "a b"], "d: --id: "),
        (["--role", "leader", "--id", ""], "d: --id: "),
        (["--id", "new", "--leader", ""], "d: leader \"\": it is no host, such as 10.0.0.1"),
        (["--id", "new", "--leader", "a b"], "d: leader \"a b\""),
        (["--id", "new", "--leader", "http://x"], "d: leader \"http://x\""),
        (["--id", "new", "--leader", "host:port"], "d: leader \"host:port\""),
    ] {
        let words: Vec<&str> = std::iter::once("setPeerConfig").chain(words).collect();
        let done = machine.d(&words).run().expect_code(2);
        assert!(done.err().starts_with(said), "{words:?}: {done:?}");
        assert_eq!(machine.text(), before, "{words:?}");
    }
    machine.d(&["setPeerConfig", "--role", "worker", "--role", "leader"]).run().expect_code(2);
    machine.d(&["setPeerConfig", "--role"]).run().expect_code(2);
}

#[test]
fn a_leader_that_answers_and_one_that_does_not() {
    let fleet = Fleet::builder().leader("lead").start();
    let machine = Machine::new();
    let address = fleet.server().address().to_string();
    let done = machine.d(&["setPeerConfig", "--role", "worker", "--id", "vps", "--leader", &address]).run();
    let done = done.expect_success();
    assert_eq!(done.out(), "Peer config saved. Connected to leader at 127.0.0.1\n");
    assert!(machine.text().contains(&format!("nats = \"nats://{address}\"")));
    fleet.daemon("lead").terminate();
    let failed = "Peer config saved. Failed to connect to leader at 127.0.0.1 (will retry on next command)";
    let done = machine.d(&["setPeerConfig", "--id", "vps2"]).run().expect_code(255);
    assert_eq!((done.out(), done.err().lines().next()), (String::new(), Some(failed)));
    assert!(machine.text().contains("peer_id = \"vps2\""), "saved all the same");
    fleet.server().kill();
    let done = machine.d(&["setPeerConfig", "--id", "vps3"]).run().expect_code(255);
    assert_eq!(done.err().lines().next(), Some(failed));
}

#[test]
fn a_host_alone_is_where_the_bus_is() {
    let machine = Machine::new();
    for (leader, url) in [
        ("10.255.0.9", "nats://10.255.0.9:4222"),
        ("fd00::9", "nats://[fd00::9]:4222"),
        ("10.255.0.9:4333", "nats://10.255.0.9:4333"),
        ("nats://10.255.0.9:1", "nats://10.255.0.9:1"),
    ] {
        let words = ["setPeerConfig", "--leader", leader, "--connect-timeout", "1ms"];
        let done = machine.d(&words).run().expect_code(255);
        assert!(done.err().starts_with("Peer config saved. Failed to connect to leader at "), "{done:?}");
        assert_eq!(machine.text(), format!("nats = \"{url}\"\n"));
    }
}

#[test]
fn a_worker_is_registered_under_its_hostname() {
    let hostname = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let id = peerbus::protocol::PeerId::from_hostname(&hostname).unwrap().to_string();
    // No machine that runs this is called as its leader is.
    let fleet = Fleet::builder().leader("leader-of-this-test").daemon(DaemonOptions::worker(&id)).start();
    fleet.wait_for_states(&[("leader-of-this-test", "online"), (&id, "online")], SOON);
    let configuration = fleet.path().join("worker.toml");
    let register = || {
        let command = fleet.command_on(&id, ["registerWorker"]);
        command.env("PEERBUS_CONFIG", &configuration).env_remove("PEERBUS_PEER_ID").run()
    };
    let done = register().expect_success();
    assert_eq!(done.out(), format!("Registered as worker '{id}', connected to leader at 127.0.0.1\n"));
    let saved = fs::read_to_string(&configuration).unwrap();
    assert_eq!(saved, format!("role = \"worker\"\npeer_id = \"{id}\"\n"));
    fleet.daemon("leader-of-this-test").terminate();
    let done = register().expect_code(255);
    let wanted = format!(
        "Registered as worker '{id}', failed to connect to leader at 127.0.0.1 (will retry on next command)"
    );
    assert_eq!((done.out(), done.err().lines().next()), (String::new(), Some(wanted.as_str())));
}

#[test]
fn a_fleet_that_was_never_named_is_at_its_old_address() {
    let machine = Machine::new();
    let done = machine.d(&["registerWorker", "--connect-timeout", "1ms"]).run().expect_code(255);
    assert!(
        done.err().contains("failed to connect to leader at 10.0.0.1 (will retry on next command)\n"),
        "{done:?}"
    );
    assert!(machine.text().contains("nats = \"nats://10.0.0.1:4222\"\n"), "{}", machine.text());
}

#[test]
fn a_worker_is_rid_of_what_a_leader_left() {
    let fleet = Fleet::builder().leader("lead").worker("vps").start();
    fleet.wait_for_states(&[("lead", "online"), ("vps", "online")], SOON);
    let as_a = |role: &str| -> Value {
        let command = fleet.command_on("lead", ["dbSanityCheck"]).env("PEERBUS_ROLE", role);
        serde_json::from_str(&command.run().expect_success().out()).unwrap()
    };
    let leader = json!({ "role": "leader", "issues_found": false, "actions": [], "message": "No sanity check needed for role: leader" });
    assert_eq!(as_a("leader"), leader);
    // While it leads, its registry is nothing that was left behind.
    let running = fleet.command_on("lead", ["dbSanityCheck"]).env("PEERBUS_ROLE", "worker").run();
    assert!(running.expect_code(1).err().contains("still runs as the leader"));
    fleet.daemon("lead").terminate();
    let found = as_a("worker");
    assert_eq!(
        found,
        json!({
            "role": "worker", "issues_found": true,
            "actions": [{
                "issue": "Worker has peer_registry data (leader-only table)", "peer_count": 2,
                "peer_ids": ["lead", "vps"], "action_taken": "Deleted 2 peer records",
            }],
            "message": "Sanity check completed: issues found and fixed",
        })
    );
    let clean = json!({ "role": "worker", "issues_found": false, "actions": [], "message": "Sanity check passed: no issues found" });
    assert_eq!(as_a("worker"), clean);
    let machine = Machine::new();
    machine.d(&["config", "set", "role", "worker"]).run().expect_success();
    let none: Value =
        serde_json::from_str(&machine.d(&["dbSanityCheck"]).run().expect_success().out()).unwrap();
    assert_eq!(none, clean);
    assert!(!machine.scratch.path().join("state").exists(), "looking makes nothing");
}
