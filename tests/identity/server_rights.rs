//! Least rights: what a daemon makes is its user's alone, what listens is private, and no secret is
//! to be read by who merely looks.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::child::Live;
use crate::harness::fleet::{DCommand, DaemonOptions, Fleet, READY_DEADLINE};
use crate::harness::scratch::{Scratch, unless_gone};
use crate::harness::wait::eventually;
use crate::harness::{procs, server};
use nix::sys::stat::{Mode, umask};

const SOON: Duration = Duration::from_secs(20);

const SECRET: &str = "s3cr3t-value";

/// A machine whose administrator has the most careless umask there is, with a leader and its broker.
struct Careless {
    scratch: Scratch,
    url: String,
    leader: Live,
}

impl Careless {
    fn new() -> Careless {
        let scratch = Scratch::new();
        let (leader, url) = eventually(SOON, "a leader with a broker", || {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let flags = ["--role", "leader", "--broker", "managed", "--broker-listen", &free];
            let state = scratch.path().join("state-lead");
            let words = ["daemon", "run", "--id", "lead", "--state-dir", state.to_str().unwrap()];
            let command = DCommand::new(scratch.path(), words.iter().chain(&flags));
            let command =
                command.env("PEERBUS_NATS_SERVER", server::program()).env("PEERBUS_CONTAINMENT", "reaper");
            let mut leader = spawn_careless(command);
            let line = leader.stderr_line(READY_DEADLINE, |line| {
                line.starts_with("ready peer=lead nats=") || line.contains("address already in use")
            });
            line.strip_prefix("ready peer=lead nats=").map(|url| (leader, url.to_owned()))
        });
        Careless { scratch, url, leader }
    }

    fn d(&self, arguments: &[&str]) -> DCommand {
        DCommand::new(self.scratch.path(), arguments).nats(&self.url)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.scratch.path().join(below)
    }
}

/// Starts `d` so that whatever it makes without another word is everybody's.
#[track_caller]
fn spawn_careless(command: DCommand) -> Live {
    let before = umask(Mode::empty());
    let live = command.spawn();
    umask(before);
    live
}

/// Everything below a directory, and itself, that others than its owner may use.
fn open_to_others(path: &Path, found: &mut Vec<String>, seen: &mut BTreeSet<String>) {
    let Some(there) = unless_gone(fs::symlink_metadata(path)) else { return };
    let (kind, mode) = (there.file_type(), there.permissions().mode() & 0o777);
    let name = if kind.is_dir() {
        "folder"
    } else if kind.is_socket() {
        "socket"
    } else {
        "file"
    };
    seen.insert(format!("{name} {}", path.file_name().unwrap().to_string_lossy()));
    if mode & 0o077 != 0 && !kind.is_symlink() {
        found.push(format!("{name} {}: {mode:o}", path.display()));
    }
    if kind.is_dir() {
        for entry in unless_gone(fs::read_dir(path)).into_iter().flatten() {
            open_to_others(&entry.unwrap().path(), found, seen);
        }
    }
}

#[test]
fn whatever_a_daemon_makes_is_its_owners_alone() {
    let machine = Careless::new();
    let worker = machine.path("state-w1");
    let start =
        ["daemon", "start", "--id", "w1", "--role", "worker", "--state-dir", worker.to_str().unwrap()];
    spawn_careless(machine.d(&start)).wait(READY_DEADLINE).expect_success();
    for peer in ["lead", "w1"] {
        machine.d(&["exec", peer, "-C", "/", "--", "true"]).run().expect_success();
        machine.d(&["exec", peer, "-C", "/", "--", "no-such-command"]).run().expect_code(127);
    }
    // One that runs, with what is there only meanwhile.
    let marker = procs::marker();
    let line = format!("sleep 1000; true # {marker}");
    let mut d = machine.d(&["exec", "lead", "-C", "/", "--sh", &line]).spawn();
    procs::wait_until_running(&marker, 1, SOON);
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for state in ["state-lead", "state-w1"] {
        open_to_others(&machine.path(state), &mut found, &mut seen);
    }
    for entry in fs::read_dir(machine.path("run")).unwrap() {
        open_to_others(&entry.unwrap().path(), &mut found, &mut seen);
    }
    d.kill();
    machine.d(&["daemon", "stop", "--state-dir", worker.to_str().unwrap()]).run().expect_success();
    assert_eq!(found, Vec::<String>::new(), "open to others than their owner");
    // It has looked at what there is.
    for wanted in [
        "folder audit",
        "file audit.head",
        "file 00000000000000000001.jsonl",
        "file state.json",
        "folder journal",
        "folder open",
        "folder ended",
        "file daemon.log",
        "folder broker",
        "file token",
    ] {
        assert!(seen.contains(wanted), "{wanted}: {seen:?}");
    }
    assert!(seen.iter().any(|name| name.ends_with(".token")), "the runtime directory's token: {seen:?}");
    assert!(seen.iter().any(|name| name.contains(".db")), "the registry: {seen:?}");
}

/// Where a process listens.
fn listens(pid: i32) -> Vec<SocketAddr> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let targets = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    let own: BTreeSet<String> = targets
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        for line in fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap().lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            // State 0A is listening.
            if words[3] != "0A" || !own.contains(words[9]) {
                continue;
            }
            let (address, port) = words[1].split_once(':').unwrap();
            let port = u16::from_str_radix(port, 16).unwrap();
            let ip = match u32::from_str_radix(address, 16) {
                Ok(word) => IpAddr::V4(Ipv4Addr::from(word.to_ne_bytes())),
                // No broker of ours has one; whichever it is, it is not the address asked for.
                Err(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            };
            found.push(SocketAddr::new(ip, port));
        }
    }
    found
}

#[test]
fn a_managed_broker_listens_nowhere_else() {
    let machine = Careless::new();
    let broker = procs::descendants(machine.leader.pid());
    let wanted: SocketAddr =
        machine.url.strip_prefix("nats://").unwrap().trim_end_matches('/').parse().unwrap();
    let listening: Vec<SocketAddr> = broker.iter().flat_map(|process| listens(process.pid)).collect();
    assert_eq!(listening, [wanted]);
    // And the daemon itself nowhere at all.
    assert_eq!(listens(machine.leader.pid()), []);
}

#[test]
fn the_configurations_that_are_shipped_watch_themselves_on_loopback() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("nats");
    let mut looked_at = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "conf") {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines().map(str::trim) {
            let Some((key, value)) = line.split_once(':') else { continue };
            let monitors =
                ["http", "https", "http_port", "https_port", "monitor_port", "prof_port"].contains(&key);
            if monitors && !line.starts_with('#') {
                looked_at += 1;
                assert!(value.trim().starts_with("\"127.0.0.1:"), "{}: {line}", path.display());
            }
        }
    }
    assert!(looked_at > 0, "none of them has monitoring any more: this test has nothing to look at");
}

/// The command lines of everything that runs on behalf of a directory.
fn command_lines(directory: &Path) -> Vec<String> {
    let line = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let all = procs::touching(directory).into_iter().map(|process| line(process.pid));
    all.map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| !line.is_empty())
        .collect()
}

fn files_with_it(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in unless_gone(fs::read_dir(directory)).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_with_it(&path, found);
        } else if path.is_file() {
            let bytes = unless_gone(fs::read(&path)).unwrap_or_default();
            if bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
                found.push(path);
            }
        }
    }
}

#[test]
fn secrets_are_not_to_be_seen_by_who_looks() {
    let fleet = Fleet::builder().start();
    let with_token = fleet.url().replace("nats://", &format!("nats://{SECRET}@"));
    let configuration = format!("nats = '{with_token}'\nenv = {{ OWN = '{SECRET}' }}\n");
    let leader = DaemonOptions::leader("lead")
        .configuration(&configuration)
        // There is no such database: errors about it are said again and again.
        .env("PEERBUS_DATABASE_URL", format!("mysql://bus:{SECRET}@127.0.0.1:1/peers"))
        .env("PEERBUS_LOG", "debug")
        .env("PEERBUS_CONTAINMENT", "reaper");
    let leader = fleet.add(leader);
    let ran = fleet.path().join("ran");
    let mut raw = crate::harness::nats::Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    raw.subscribe(&inbox);
    let line = format!("test ${{#PASS}} = {} && touch {}; sleep 1000", SECRET.len(), ran.display());
    let request = serde_json::json!({
        "id": uuid::Uuid::now_v7().to_string(), "shell_cmd": line, "directory": fleet.path(), "env": { "PASS": SECRET },
    });
    raw.publish_reply("exec.lead", &inbox, request.to_string());
    eventually(SOON, "the command to have its secret", || ran.exists().then_some(()));
    // While a process becomes another one, it has no command line.
    let lines = eventually(SOON, "the daemon's and the command's lines", || {
        let lines = command_lines(fleet.path());
        let shown = |text: &str| lines.iter().any(|line| line.contains(text));
        (shown("daemon run") && shown("sleep 1000")).then_some(lines)
    });
    assert!(lines.iter().all(|line| !line.contains(SECRET)), "{lines:?}");
    let shown = [
        fleet.command_on("lead", ["status", "--json"]).run(),
        fleet.command_on("lead", ["status"]).run(),
        fleet.command_on("lead", ["config", "show"]).run(),
        fleet.command_on("lead", ["daemon", "status", "--json"]).run(),
        fleet.command_on("lead", ["audit", "lead", "--json"]).run(),
        fleet.command_on("lead", ["doctor"]).run(),
    ];
    for said in shown {
        assert!(!said.out().contains(SECRET) && !said.err().contains(SECRET), "{said:?}");
        assert!(!said.out().is_empty(), "{said:?}");
    }
    assert!(!leader.stderr().contains(SECRET), "{}", leader.stderr());
    let mut found = Vec::new();
    files_with_it(leader.state_directory(), &mut found);
    assert_eq!(found, Vec::<PathBuf>::new());
    raw.publish_reply(&format!("exec.lead.{}.cancel", request["id"].as_str().unwrap()), &inbox, "");
    leader.terminate().expect_success();
}
