//! Where systemd has a unit, systemd is asked and nothing is started beside it.
//!
//! This needs no systemd: `d` runs in a mount namespace of its own in which `/run/systemd/system` is
//! there, and finds a `systemctl` and a `journalctl` that note what they are asked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::harness::child::{Finished, Live};
use crate::lifecycle::bench::{Machine, SOON, says};

const SYSTEMCTL: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
case $1 in
  show) cat "$3" 2>/dev/null; exit 0 ;;
esac
echo "systemctl $*" >> calls
if [ -e "fails-$1" ]; then echo "Job for peerbus.service failed." >&2; exit 1; fi
case $1 in
  start | restart) echo active > ActiveState ;;
  stop) echo inactive > ActiveState ;;
esac
"#;

const JOURNALCTL: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
echo "journalctl $*" >> calls
echo "the unit's own words"
"#;

/// A machine with systemd and a unit.
struct Booted {
    machine: Machine,
    tools: PathBuf,
}

impl Booted {
    fn new(load_state: &str) -> Booted {
        let machine = Machine::new();
        let tools = machine.fleet.directory("tools");
        for (name, text) in [("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)] {
            let path = machine.fleet.file(&format!("tools/{name}"), text);
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let booted = Booted { machine, tools };
        booted.set("LoadState", load_state);
        booted.set("ActiveState", "inactive");
        booted.set("MainPID", "0");
        booted
    }

    /// What systemd says of the unit.
    fn set(&self, property: &str, value: &str) {
        fs::write(self.tools.join(property), format!("{value}\n")).unwrap();
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.tools.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// `d daemon …`
    fn run(&self, arguments: &[&str]) -> Finished {
        self.d(&[&["daemon"], arguments].concat())
    }

    fn d(&self, arguments: &[&str]) -> Finished {
        self.with(arguments, |_| ())
    }

    fn with(&self, arguments: &[&str], change: impl FnOnce(&mut std::process::Command)) -> Finished {
        let path = format!("{}:{}", self.tools.display(), std::env::var("PATH").unwrap());
        let line = "mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec \"$0\" \"$@\"";
        let unshare = ["--mount", "sh", "-c", line, env!("CARGO_BIN_EXE_d")];
        let command = self.machine.command([""]).instead("unshare").env("PATH", path);
        command.with(|unshared| change(unshared.args(unshare).args(arguments))).run()
    }

    /// A daemon that is the unit's, as far as systemd says.
    fn unit_runs(&self) -> Live {
        let mut live = self.machine.command(["daemon", "run"]).spawn();
        live.stderr_line(SOON, |line| line.starts_with("ready "));
        self.set("ActiveState", "active");
        self.set("SubState", "running");
        self.set("MainPID", &live.pid().to_string());
        live
    }
}

#[test]
fn a_unit_is_started_by_systemd_alone() {
    let booted = Booted::new("loaded");
    booted.set("MainPID", "4242");
    let finished = booted.run(&["start"]).expect_success();
    assert_eq!(finished.out(), "started unit=peerbus.service pid=4242\n");
    assert_eq!(booted.calls(), ["systemctl start peerbus.service"]);
    assert!(!booted.machine.log().exists() && !booted.machine.state().exists(), "nothing beside it");
}

#[test]
fn flags_that_would_not_reach_the_unit_are_refused() {
    let booted = Booted::new("loaded");
    for flags in [["--id", "w2"], ["--state-dir", "/tmp/elsewhere"], ["--nats", "nats://127.0.0.1:1"]] {
        for verb in ["start", "restart"] {
            let finished = booted.run(&[verb, flags[0], flags[1]]).expect_code(2);
            says(&finished, &["peerbus.service", "configuration file"]);
        }
    }
    assert_eq!(booted.calls(), Vec::<String>::new());
}

#[test]
fn who_joins_a_fleet_has_the_unit_do_it() {
    let booted = Booted::new("loaded");
    let mut live = booted.unit_runs();
    let bus = booted.machine.fleet.server().address().to_string();
    // It is what it is to be: nothing is restarted, and without a leader that is said.
    let joined = booted.d(&["join", &bus, "--id", "w1"]).expect_code(255);
    says(&joined, &["saved as w1", "no leader answers"]);
    assert_eq!(booted.calls(), Vec::<String>::new());
    booted.with(&["join", &bus, "--id", "w2"], |d| _ = d.env_remove("PEERBUS_PEER_ID")).expect_code(255);
    assert_eq!(booted.calls(), ["systemctl restart peerbus.service"]);
    assert!(live.ended().is_none(), "systemd alone stops it");
}

#[test]
fn a_unit_that_fails_is_told_with_its_words_and_code() {
    let booted = Booted::new("loaded");
    booted.set("fails-start", "");
    booted.set("ExecMainStatus", "75");
    let finished = booted.run(&["start"]).expect_code(75);
    says(&finished, &["systemctl start peerbus.service", "Job for peerbus.service failed."]);
    assert!(finished.err().contains("the unit's own words"), "{finished:?}");
}

#[test]
fn its_daemon_is_stopped_and_restarted_by_systemd() {
    let booted = Booted::new("loaded");
    let mut live = booted.unit_runs();
    let running = booted.run(&["start"]).expect_success();
    assert!(
        running.out().starts_with(&format!("running already peer=w1 pid={} ", live.pid())),
        "{running:?}"
    );
    let status = booted.run(&["status"]).expect_success();
    assert!(status.out().contains("peerbus.service: active (running)"), "{status:?}");
    booted.run(&["restart"]).expect_success();
    booted.run(&["stop"]).expect_success();
    assert_eq!(booted.calls(), ["systemctl restart peerbus.service", "systemctl stop peerbus.service"]);
    assert!(live.ended().is_none(), "systemd alone stops it");
}

#[test]
fn a_detached_one_from_before_is_stopped_itself() {
    let booted = Booted::new("loaded");
    let pid = booted.machine.started();
    let finished = booted.run(&["stop"]).expect_success();
    assert!(finished.out().starts_with(&format!("stopped peer=w1 pid={pid} ")), "{finished:?}");
    assert_eq!(booted.calls(), Vec::<String>::new());
}

#[test]
fn its_log_is_the_journal() {
    let booted = Booted::new("loaded");
    let finished = booted.run(&["logs", "-f", "-n", "7"]).expect_success();
    assert_eq!(finished.out(), "the unit's own words\n");
    assert_eq!(booted.calls(), ["journalctl -u peerbus.service -n 7 -f"]);
}

#[test]
fn without_a_unit_systemd_is_left_alone() {
    let booted = Booted::new("not-found");
    let finished = booted.run(&["start"]).expect_success();
    assert!(finished.out().starts_with("started peer=w1 "), "{finished:?}");
    booted.run(&["stop"]).expect_success();
    assert_eq!(booted.calls(), Vec::<String>::new());
}

/// A person's own installation, beside the machine's.
#[test]
fn the_machines_unit_is_nothing_to_another_installation() {
    const NOBODY: &str = "65534";
    let booted = Booted::new("loaded");
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("d");
    fs::copy(env!("CARGO_BIN_EXE_d"), &program).unwrap();
    fs::write(home.path().join("c.toml"), "").unwrap();
    for name in fs::read_dir(&booted.tools).unwrap() {
        let name = name.unwrap();
        fs::copy(name.path(), home.path().join(name.file_name())).unwrap();
    }
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let line = "mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec setpriv --reuid \"$0\" --clear-groups \"$@\"";
    let stop = |starts: &str| {
        fs::write(
            home.path().join("ExecStart"),
            format!("{{ path={starts} ; argv[]={starts} daemon run ; }}\n"),
        )
        .unwrap();
        fs::write(home.path().join("ActiveState"), "active\n").unwrap();
        fs::set_permissions(home.path().join("ActiveState"), fs::Permissions::from_mode(0o666)).unwrap();
        let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
        let command = booted.machine.command([""]).instead("unshare").env("PATH", path);
        let command = command.env("PEERBUS_CONFIG", home.path().join("c.toml")).in_directory("/");
        let command = command.env("PEERBUS_STATE_DIR", home.path().join("state"));
        let command = command.with(|d| {
            _ = d.args(["--mount", "sh", "-c", line, NOBODY]).arg(&program).args(["daemon", "stop"])
        });
        command.run().expect_success()
    };
    says(&stop("/usr/local/bin/d"), &["no daemon runs on"]);
    assert_eq!(stop(&program.display().to_string()).out(), "stopped unit=peerbus.service\n");
}
