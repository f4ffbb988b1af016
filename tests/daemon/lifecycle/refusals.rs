//! What keeps a daemon from coming up is said with its own words, and nothing is left half-started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::procs;
use crate::lifecycle::bench::{Machine, SOON, says};

#[test]
fn without_a_bus_it_says_what_it_waits_for_and_stops_again() {
    let machine = Machine::new();
    let url = machine.fleet.url();
    machine.fleet.server().kill();
    let finished = machine.command(["daemon", "start", "--ready-timeout", "5s"]).run().expect_code(1);
    assert_eq!(finished.out(), "");
    says(
        &finished,
        &[
            "not ready within 5s (--ready-timeout)",
            "stopped again",
            &format!("connecting to the bus at {url}"),
        ],
    );
    assert!(finished.err().contains("WARN"), "its own lines: {finished:?}");
    machine.nothing_is_left();
}

#[test]
fn an_interrupted_start_leaves_nothing() {
    let machine = Machine::new();
    machine.fleet.server().kill();
    let mut live = machine.start().spawn();
    machine.starting();
    live.signal(Signal::SIGINT);
    says(&live.wait(SOON).expect_code(130), &["interrupted", "stopped again"]);
    machine.nothing_is_left();
}

#[test]
fn one_that_is_killed_on_its_way_is_told_of() {
    let machine = Machine::new();
    machine.fleet.server().kill();
    let mut live = machine.start().spawn();
    kill(Pid::from_raw(machine.starting()), Signal::SIGKILL).unwrap();
    says(&live.wait(SOON).expect_code(1), &["did not come up", "killed by signal 9"]);
    assert_eq!(machine.status(3)["state"], "failed");
    machine.nothing_is_left();
}

#[test]
fn a_peer_id_that_is_taken_is_75() {
    let machine = Machine::new();
    machine.started();
    let elsewhere = machine.fleet.path().join("elsewhere");
    let finished = machine.start().env("PEERBUS_STATE_DIR", &elsewhere).run().expect_code(75);
    says(&finished, &["the daemon did not come up", "the peer id w1 is held by another daemon"]);
    let status = machine.command(["daemon", "status"]).env("PEERBUS_STATE_DIR", &elsewhere).run();
    assert!(status.expect_code(3).out().contains("failed: the peer id w1 is held"), "its reason is kept");
    machine.status(0);
}

#[test]
fn mistakes_are_usage_errors() {
    let machine = Machine::new();
    let file = machine.fleet.file("bad.toml", "\nrole = 'boss'\n");
    for (arguments, named) in [
        (["--config", file.to_str().unwrap()], "line 2"),
        (["--id", "Not An Id"], "Not An Id"),
        (["--nats", "::"], "::"),
        (["--broker-listen", "8.8.8.8"], "8.8.8.8"),
    ] {
        let finished = machine.start().with(|d| _ = d.args(arguments)).run().expect_code(2);
        assert!(finished.err().contains(named), "{finished:?}");
    }
    assert!(!machine.state().exists(), "nothing was begun");
}

#[test]
fn a_state_directory_that_cannot_be_one_is_named() {
    let machine = Machine::new();
    let file = machine.fleet.file("a-file", "");
    for path in [file.clone(), file.join("below"), PathBuf::from("/proc/nowhere")] {
        let finished = machine.start().env("PEERBUS_STATE_DIR", &path).run().expect_code(1);
        says(&finished, &[path.to_str().unwrap()]);
    }
}

/// A small file system of its own, without any room; gone when this is dropped.
struct FullDisk(PathBuf);

impl FullDisk {
    fn at(place: &Path) -> FullDisk {
        let options = "size=64k,mode=0700";
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(place).status();
        assert!(mounted.unwrap().success(), "this test needs the right to mount");
        let _ = fs::write(place.join("filling"), vec![0; 1 << 20]);
        FullDisk(place.to_owned())
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_although_no_log_can_be_written() {
    let machine = Machine::new();
    let disk = FullDisk::at(&machine.fleet.directory("state-w1"));
    let finished = machine.start().run().expect_code(1);
    assert!(finished.err().contains("No space left on device"), "{finished:?}");
    says(&finished, &["did not come up"]);
    machine.nothing_is_left();
    drop(disk);
}

#[test]
fn another_persons_daemon_is_left_alone() {
    const NOBODY: u32 = 65_534;
    assert!(nix::unistd::geteuid().is_root(), "this test needs to become another user");
    let machine = Machine::new();
    let pid = machine.started();
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let config = home.path().join("c.toml");
    fs::write(&config, "").unwrap();
    // Nobody may run what is built below a private home.
    let program = home.path().join("d");
    fs::copy(env!("CARGO_BIN_EXE_d"), &program).unwrap();
    for open in [0o700, 0o711] {
        fs::set_permissions(machine.fleet.path(), fs::Permissions::from_mode(open)).unwrap();
        for verb in ["start", "stop", "restart", "status", "logs"] {
            let command = machine.command(["daemon", verb]).env("PEERBUS_CONFIG", &config);
            let command = command.env("TMPDIR", "/tmp").in_directory("/").instead(program.to_str().unwrap());
            let command = command.with(|d| _ = d.args(["daemon", verb]).uid(NOBODY).gid(NOBODY));
            let finished = command.run().expect_code(1);
            says(&finished, &["ermission denied"]);
        }
    }
    assert_eq!(machine.status(0)["pid"], pid);
    assert!(procs::look_at(pid).is_some());
}
