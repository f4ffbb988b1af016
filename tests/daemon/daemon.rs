//! The daemon as the machine and its owner see it: when it is ready, what it tells systemd, what it
//! leaves in its directory, where its settings come from, and how it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::child::{Finished, Live};
use crate::harness::fleet::{DCommand, DaemonOptions, Fleet, READY_DEADLINE, TERMINATE_DEADLINE};
use crate::harness::nats::{Login, Raw};
use crate::harness::procs;
use crate::harness::relay::Relay;
use crate::harness::scratch::{Scratch, unless_gone};
use crate::harness::server::{Server, ServerOptions};
use crate::harness::wait::{eventually, never};
use nix::sys::signal::Signal;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
/// Long enough for what must not happen to have happened.
const A_WHILE: Duration = Duration::from_millis(300);

/// A private place for daemons that are started by hand, with every setting the test's own.
struct Place(Scratch);

impl Place {
    fn new() -> Place {
        Place(Scratch::new())
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// `d daemon run` with these flags, on [`Place::state`].
    fn daemon(&self, flags: &[&str]) -> DCommand {
        let state = self.state().into_os_string();
        let words = ["daemon", "run"].iter().chain(flags).map(|word| (*word).into());
        DCommand::new(self.0.path(), words.chain(["--state-dir".into(), state]))
    }

    fn d(&self, arguments: &[&str]) -> DCommand {
        DCommand::new(self.0.path(), arguments)
    }

    fn configuration(&self, text: &str) {
        self.0.file("config.toml", text);
    }
}

fn ready(live: &mut Live) -> String {
    live.stderr_line(READY_DEADLINE, |line| line.starts_with("ready "))
}

fn stop(live: &mut Live) -> Finished {
    live.signal(Signal::SIGTERM);
    live.wait(TERMINATE_DEADLINE).expect_success()
}

fn state_of(directory: &Path) -> Value {
    serde_json::from_slice(&fs::read(directory.join("state.json")).unwrap()).unwrap()
}

/// Waits until the state file says this.
fn wait_for_state(directory: &Path, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(SOON, "the state file to say it", || {
        let text = fs::read(directory.join("state.json")).ok()?;
        serde_json::from_slice(&text).ok().filter(&wanted)
    })
}

/// Every file below a directory whose bytes contain this text.
fn files_with(directory: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in unless_gone(fs::read_dir(directory)).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files_with(&path, text));
        } else if kind.is_file() {
            let bytes = unless_gone(fs::read(&path)).unwrap_or_default();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn ready_is_said_once_and_only_when_it_serves() {
    let server = Server::start();
    for _ in 0..5 {
        let place = Place::new();
        let mut daemon = place.daemon(&["--id", "w1", "--nats", &server.url()]).spawn();
        assert_eq!(ready(&mut daemon), format!("ready peer=w1 nats={}", server.url()));
        // The very first request is served: an answer without a single repetition.
        let mut raw = Raw::connect(&server.url());
        let answer = raw.request("exec.w1", r#"{"argv":["true"],"directory":"/"}"#, SOON);
        assert_eq!(answer.json()["ending"]["exited"]["code"], 0, "{answer:?}");
        let shown = state_of(&place.state());
        assert_eq!(
            (shown["state"].as_str(), shown["state_reason"].as_str()),
            (Some("ready"), Some("serving"))
        );
        let finished = stop(&mut daemon);
        assert_eq!(finished.out(), "");
        assert_eq!(finished.err().lines().filter(|line| line.contains("ready")).count(), 1, "{finished:?}");
    }
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let server = Server::start();
    let place = Place::new();
    let path = place.0.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(READY_DEADLINE)).unwrap();
    let hear = || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned()
    };
    server.kill();
    let command = place.daemon(&["--id", "w1", "--nats", &server.url()]);
    let mut daemon = command.env("NOTIFY_SOCKET", &path).spawn();
    wait_for_state(&place.state(), |state| state["state_reason"].as_str().unwrap().contains("connecting"));
    // Before it serves it says what it waits for, and nothing else.
    assert_eq!(hear(), format!("STATUS=connecting to the bus at {}", server.url()));
    server.restart();
    let more = std::iter::from_fn(|| Some(hear())).find(|said| !said.starts_with("STATUS=connecting to"));
    assert_eq!(more.as_deref(), Some("READY=1\nSTATUS=serving"));
    ready(&mut daemon);
    // What it runs is not its own: a command cannot speak to systemd in its name.
    let shown = place.d(&["exec", "w1", "-C", "/", "--", "env"]).nats(&server.url()).run().expect_success();
    assert!(!shown.out().contains("NOTIFY_SOCKET"), "{shown:?}");
    stop(&mut daemon);
    assert_eq!(hear(), "STOPPING=1");
}

#[test]
fn a_notification_socket_that_is_gone_stops_nothing() {
    let server = Server::start();
    let place = Place::new();
    let command = place.daemon(&["--id", "w1", "--nats", &server.url()]);
    let mut daemon = command.env("NOTIFY_SOCKET", place.0.path().join("gone")).spawn();
    ready(&mut daemon);
    stop(&mut daemon);
}

#[test]
fn the_state_file_is_private_tells_the_truth_and_stays() {
    let server = ServerOptions::new().user("me", "hunter2").start();
    let place = Place::new();
    let url = server.url().replace("nats://", "nats://me:hunter2@");
    let mut daemon = place.daemon(&["--id", "w1", "--nats", &url]).spawn();
    assert_eq!(ready(&mut daemon), format!("ready peer=w1 nats={}", server.url()));
    let file = place.state().join("state.json");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&place.state())), (0o600, 0o700));
    let state = state_of(&place.state());
    assert_eq!(state["type"], "peerbus.daemon_state.v1");
    assert_eq!((&state["state"], &state["role"]), (&"ready".into(), &"worker".into()));
    assert_eq!((&state["peer_id"], &state["nats"]), (&"w1".into(), &server.url().into()));
    assert_eq!(state["version"], peerbus::VERSION);
    assert_eq!(state["process"]["pid"], daemon.pid());
    assert!(state["since"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{state}");

    daemon.kill();
    assert_eq!(state_of(&place.state()), state, "a killed daemon writes nothing more");
    let mut daemon = place.daemon(&["--id", "w1", "--nats", &url]).spawn();
    ready(&mut daemon);
    assert_ne!(state_of(&place.state())["instance"], state["instance"]);
    let finished = stop(&mut daemon);
    let state = state_of(&place.state());
    assert_eq!((&state["state"], &state["state_reason"]), (&"stopped".into(), &"asked to stop".into()));
    assert_eq!(mode(&file), 0o600);
    assert_eq!(files_with(&place.state(), "hunter2"), Vec::<PathBuf>::new());
    assert!(!finished.err().contains("hunter2"), "{finished:?}");
}

#[test]
fn a_state_directory_has_one_daemon() {
    let server = Server::start();
    let place = Place::new();
    let mut first = place.daemon(&["--id", "w1", "--nats", &server.url()]).spawn();
    ready(&mut first);
    let before = state_of(&place.state());
    for id in ["w1", "w2"] {
        let second = place.daemon(&["--id", id, "--nats", &server.url()]).run().expect_code(75);
        let err = second.err();
        assert!(err.contains(&format!("process {}", first.pid())), "it names the holder: {err}");
        assert!(err.contains(&place.state().display().to_string()), "{err}");
        assert_eq!(err.lines().filter(|line| line.starts_with("d: ")).count(), 1, "{err}");
        assert_eq!(state_of(&place.state()), before, "the holder's file is left alone");
    }
    first.kill();
    let mut next = place.daemon(&["--id", "w1", "--nats", &server.url()]).spawn();
    ready(&mut next);
    stop(&mut next);
}

#[test]
fn a_state_directory_that_cannot_be_is_named() {
    let server = Server::start();
    let place = Place::new();
    fs::write(place.state(), "a file").unwrap();
    let failed = place.daemon(&["--id", "w1", "--nats", &server.url()]).run().expect_code(1);
    let said = failed.err();
    assert!(said.starts_with("d: ") && said.contains(&place.state().display().to_string()), "{said}");
    assert_eq!(fs::read_to_string(place.state()).unwrap(), "a file");
}

#[test]
fn a_peer_id_has_one_daemon() {
    let fleet = Fleet::of_workers(["w1"]);
    let instance = state_of(fleet.daemon("w1").state_directory())["instance"].clone();
    let second = fleet.add_starting(DaemonOptions::worker("w1").state("other"));
    let finished = second.wait_for_end(READY_DEADLINE).expect_code(75);
    let err = finished.err();
    assert!(err.contains("d: the peer id w1 is held by another daemon"), "{err}");
    assert!(err.contains(instance.as_str().unwrap()), "it names the instance: {err}");
    assert!(!err.contains("ready peer="), "{err}");
    assert_eq!(state_of(second.state_directory())["state"], "failed");
    fleet.d(["exec", "w1", "-C", "/", "--", "true"]).expect_success();
    // A daemon that was just killed is no other daemon.
    fleet.daemon("w1").kill9();
    fleet.daemon("w1").restart();
}

/// Starts `d daemon run` without any flag of its own and gives what it calls itself.
fn named(command: DCommand) -> String {
    let mut daemon = command.spawn();
    let line = ready(&mut daemon);
    stop(&mut daemon);
    line
}

#[test]
fn a_flag_beats_the_environment_beats_the_file() {
    let server = Server::start();
    let place = Place::new();
    let nowhere = "nats://127.0.0.1:1";
    let line = |id: &str| format!("ready peer={id} nats={}", server.url());
    let file = |nats: &str| format!("peer_id = 'of-file'\nnats = '{nats}'\nrole = 'worker'\n");
    let bare = |words: &[&str]| place.d(&[&["daemon", "run"], words].concat());

    place.configuration(&format!("{}state_dir = '{}'\n", file(&server.url()), place.state().display()));
    assert_eq!(named(bare(&[])), line("of-file"));
    assert_eq!(state_of(&place.state())["peer_id"], "of-file");

    place.configuration(&format!("{}state_dir = '/nowhere'\n", file(nowhere)));
    let environment = |command: DCommand, nats: &str| {
        let command = command.env("PEERBUS_PEER_ID", "of-env").nats(nats).env("PEERBUS_ROLE", "leader");
        command.env("PEERBUS_STATE_DIR", place.state())
    };
    assert_eq!(named(environment(bare(&[]), &server.url())), line("of-env"));
    assert_eq!(state_of(&place.state())["role"], "leader");

    let state = place.0.path().join("another");
    let flags = [
        "--id",
        "of-flag",
        "--nats",
        &server.url(),
        "--role",
        "worker",
        "--state-dir",
        state.to_str().unwrap(),
    ];
    assert_eq!(named(environment(bare(&flags), nowhere)), line("of-flag"));
    assert_eq!(
        (&state_of(&state)["peer_id"], &state_of(&state)["role"]),
        (&"of-flag".into(), &"worker".into())
    );

    // An empty variable is none, and another file can be named.
    let other = place.0.file("other.toml", file(&server.url()).replace("of-file", "of-other"));
    let command = place.daemon(&["--config", other.to_str().unwrap()]).env("PEERBUS_PEER_ID", "");
    assert_eq!(named(command.nats("")), line("of-other"));
    let command = place.daemon(&[]).env("PEERBUS_CONFIG", &other);
    assert_eq!(named(command), line("of-other"));
}

#[test]
fn a_mistake_in_the_settings_is_named_with_its_place() {
    let place = Place::new();
    for (text, wanted) in [
        ("nats = 'nats://127.0.0.1:1'\npeer = 'w1'\n", ["peer", "line 2"]),
        ("\n[daemon]\nid = 'w1'\n", ["daemon", "line 2"]),
        ("role = 'boss'\n", ["boss", "line 1"]),
        ("max_jobs = 'many'\n", ["many", "line 1"]),
        ("directory = 'relative'\n", ["relative", "line 1"]),
        ("nats = \n", ["config.toml", "line 1"]),
        ("broker_listen = '0.0.0.0'\n", ["0.0.0.0", "line 1"]),
    ] {
        place.configuration(text);
        for finished in [place.daemon(&["--id", "w1"]).run(), place.d(&["peers"]).run()] {
            let err = finished.err();
            assert_eq!((finished.code(), finished.out().as_str()), (Some(2), ""), "{finished:?}");
            assert!(wanted.iter().all(|word| err.contains(word)), "{text:?}: {err}");
        }
        assert!(!place.state().exists(), "nothing was begun");
    }
    place.configuration("");
    for (name, value) in [("PEERBUS_ROLE", "boss"), ("PEERBUS_PEER_ID", "A b"), ("NATS_URL", "http://x")] {
        let finished = place.daemon(&[]).env(name, value).run().expect_code(2);
        assert!(finished.err().contains(value.trim_end_matches("://x")), "{name}: {finished:?}");
    }
    let missing = place.0.path().join("missing.toml");
    let finished = place.daemon(&["--config", missing.to_str().unwrap()]).run().expect_code(2);
    assert!(finished.err().contains(missing.to_str().unwrap()), "{finished:?}");
    let finished = place.daemon(&["--creds", missing.to_str().unwrap()]).run().expect_code(2);
    assert!(finished.err().contains(missing.to_str().unwrap()), "{finished:?}");
}

#[test]
fn an_id_that_is_none_is_refused() {
    let place = Place::new();
    let long = "x".repeat(64);
    for bad in ["", "W1", "w 1", "w.1", "w>", "*", "-w", "_w", "w1\n", "ä", &long] {
        let finished = place.daemon(&[&format!("--id={bad}")]).run().expect_code(2);
        assert!(finished.err().contains("is not a peer id"), "{bad:?}: {finished:?}");
        assert!(!place.state().exists(), "nothing was begun");
    }
}

#[test]
fn the_hostname_makes_the_id_where_none_is_given() {
    let server = Server::start();
    for (hostname, id) in [("Web.Example_1", "web-example_1"), ("-x-", "x")] {
        let place = Place::new();
        let script = format!("echo {hostname} >/proc/sys/kernel/hostname; exec \"$@\"");
        let mut unshare = vec!["--uts"];
        if !nix::unistd::geteuid().is_root() {
            unshare.extend(["--user", "--map-root-user"]);
        }
        let command = place.d(&[]).instead("unshare").with(|command| {
            command.args(unshare).args(["sh", "-ec", &script, "sh", env!("CARGO_BIN_EXE_d")]);
            command.args(["daemon", "run", "--state-dir"]).arg(place.state());
        });
        assert_eq!(named(command.nats(&server.url())), format!("ready peer={id} nats={}", server.url()));
    }
}

#[test]
fn a_context_of_the_nats_command_line_counts_where_nothing_else_names_a_bus() {
    let server = ServerOptions::new().user("me", "hunter2").start();
    let place = Place::new();
    let home = place.0.directory("xdg-config");
    let context = |text: &str| {
        fs::create_dir_all(home.join("nats/context")).unwrap();
        fs::write(home.join("nats/context.txt"), "work").unwrap();
        fs::write(home.join("nats/context/work.json"), text).unwrap();
    };
    let url = server.url();
    context(&format!(r#"{{"url":"{url}","user":"me","password":"hunter2","description":"x"}}"#));
    let mut daemon = place.daemon(&["--id", "w1"]).spawn();
    assert_eq!(ready(&mut daemon), format!("ready peer=w1 nats={url}"));
    place.d(&["ping", "w1", "--timeout", "20s"]).run().expect_success();
    // Its secrets are for its own server only.
    let elsewhere = place.d(&["ping", "w1"]).nats(&url).run().expect_code(255);
    assert!(elsewhere.err().contains("uthorization"), "{elsewhere:?}");
    stop(&mut daemon);
    context("{");
    let broken = place.d(&["ping", "w1"]).run().expect_code(2);
    assert!(broken.err().contains("work.json"), "{broken:?}");
    fs::write(home.join("nats/context.txt"), "gone").unwrap();
    let missing = place.d(&["ping", "w1"]).run().expect_code(2);
    assert!(missing.err().contains("gone.json"), "{missing:?}");
}

#[test]
fn it_waits_for_the_bus_and_says_what_for() {
    let server = Server::start();
    let place = Place::new();
    server.kill();
    let mut daemon = place.daemon(&["--id", "w1", "--nats", &server.url()]).spawn();
    let state = wait_for_state(&place.state(), |state| {
        let reason = state["state_reason"].as_str().unwrap();
        reason.contains(&server.url()) && reason.contains("refused")
    });
    assert_eq!(state["state"], "starting");
    never(A_WHILE, "ready without a bus", || daemon.stderr.text().contains("ready peer=").then_some(()));
    server.restart();
    ready(&mut daemon);
    place.d(&["exec", "w1", "-C", "/", "--", "true"]).nats(&server.url()).run().expect_success();
    stop(&mut daemon);
}

#[test]
fn it_stops_at_once_while_it_waits_for_the_bus() {
    let (server, silent) = (Server::start(), Server::start());
    server.kill();
    let relay = Relay::to(silent.address());
    relay.freeze();
    // Nobody listens; somebody listens and says nothing.
    for url in [server.url(), relay.url()] {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            // On a busy machine one may be slow.
            let at_once = (0..3).any(|_| stops_after(&url, signal) < Duration::from_secs(3));
            assert!(at_once, "{signal} {url}");
        }
    }
}

/// How long a daemon takes to stop that waits for its bus.
#[track_caller]
fn stops_after(url: &str, signal: Signal) -> Duration {
    let place = Place::new();
    let mut daemon = place.daemon(&["--id", "w1", "--nats", url]).spawn();
    wait_for_state(&place.state(), |state| state["state"] == "starting");
    let asked = Instant::now();
    daemon.signal(signal);
    let finished = daemon.wait(SOON).expect_success();
    let took = asked.elapsed();
    assert!(!finished.err().contains("ready peer="), "{finished:?}");
    assert_eq!(state_of(&place.state())["state"], "stopped");
    took
}

#[test]
fn it_stops_cleanly_with_and_without_its_bus() {
    let server = Server::start();
    let place = Place::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = place.daemon(&["--id", "w1", "--nats", &server.url()]).spawn();
        ready(&mut daemon);
        // A terminal that goes away takes nothing with it.
        daemon.signal(Signal::SIGHUP);
        place.d(&["ping", "w1", "--timeout", "20s"]).nats(&server.url()).run().expect_success();
        let mut raw = Raw::connect(&server.url());
        let beats = raw.subscribe("peers.alive");
        daemon.signal(signal);
        let farewell = raw.next_where(SOON, |message| message.json()["state"] == "leaving");
        assert_eq!(farewell.map(|beat| beat.sid), Some(beats), "it says goodbye");
        daemon.wait(SOON).expect_success();
    }
    let mut daemon = place.daemon(&["--id", "w1", "--nats", &server.url()]).spawn();
    ready(&mut daemon);
    server.kill();
    let asked = Instant::now();
    stop(&mut daemon);
    assert!(asked.elapsed() < Duration::from_secs(11), "{:?}", asked.elapsed());
    assert_eq!(state_of(&place.state())["state"], "stopped");
}

#[test]
fn credentials_are_taken_from_the_url() {
    let token = ServerOptions::new().token("s3cret/+ %").start();
    let user = ServerOptions::new().user("me", "p@ss:w/rd").start();
    let login = Login { token: Some("s3cret/+ %".to_owned()), ..Login::default() };
    assert!(Raw::try_connect(&token.url(), &login).is_ok());
    for (server, userinfo) in [(&token, "s3cret%2F+%20%25@"), (&user, "me:p%40ss%3Aw%2Frd@")] {
        let place = Place::new();
        let url = server.url().replace("nats://", &format!("nats://{userinfo}"));
        let mut daemon = place.daemon(&["--id", "w1"]).nats(&url).spawn();
        assert_eq!(ready(&mut daemon), format!("ready peer=w1 nats={}", server.url()));
        place.d(&["exec", "w1", "-C", "/", "--", "true"]).nats(&url).run().expect_success();
        let environment = place.d(&["exec", "w1", "-C", "/", "--", "env"]).nats(&url).run().expect_success();
        assert!(!environment.out().contains(userinfo), "{environment:?}");
        let refused = place.d(&["ping", "w1"]).nats(&server.url()).run().expect_code(255);
        assert!(refused.err().starts_with("d: bus unreachable: "), "{refused:?}");
        assert!(refused.err().contains("uthorization"), "it says why: {refused:?}");
        stop(&mut daemon);
    }
}

#[test]
fn with_wrong_credentials_it_keeps_trying_and_says_why_without_them() {
    let server = ServerOptions::new().token("right").start();
    let place = Place::new();
    let url = server.url().replace("nats://", "nats://wr0ng@");
    let mut daemon = place.daemon(&["--id", "w1"]).nats(&url).spawn();
    let state = wait_for_state(&place.state(), |state| {
        let reason = state["state_reason"].as_str().unwrap();
        reason.contains("uthorization") && reason.contains(&server.url())
    });
    assert_eq!((&state["state"], daemon.ended()), (&"starting".into(), None));
    let said = daemon.stderr_line(SOON, |line| line.contains("uthorization"));
    assert!(said.contains(&server.url()), "{said}");
    // The same daemon gets in once the server takes what it has.
    server.reload(&ServerOptions::new().token("wr0ng"));
    ready(&mut daemon);
    let finished = stop(&mut daemon);
    assert!(!finished.err().contains("wr0ng"), "{finished:?}");
    assert_eq!(files_with(&place.state(), "wr0ng"), Vec::<PathBuf>::new());
    let refused = place.d(&["ping", "w1"]).nats(&url.replace("wr0ng", "n0ne")).run().expect_code(255);
    assert!(!refused.err().contains("n0ne"), "{refused:?}");
}

#[test]
fn an_idle_daemon_costs_little() {
    const MOST_MEMORY: u64 = 6 << 20;
    let fleet = Fleet::of_workers(["w1"]);
    for _ in 0..20 {
        fleet.d(["ping", "w1", "--timeout", "20s"]).expect_success();
    }
    let pid = fleet.daemon("w1").pid();
    let (before, since) = (procs::processor_time(pid), Instant::now());
    let memory = procs::own_bytes(pid);
    // Two heartbeats: what an idle daemon does all day.
    let mut raw = Raw::connect(&fleet.server().url());
    let beats = raw.subscribe("peers.alive");
    for _ in 0..2 {
        raw.expect_on(beats, SOON, "a heartbeat");
    }
    let (used, span) = (procs::processor_time(pid) - before, since.elapsed());
    let (mib, files) = (memory as f64 / f64::from(1 << 20), procs::open_files(pid));
    eprintln!("an idle daemon: {mib:.1} MiB, {used:?} of processor in {span:?}, {files} open files");
    assert!(memory > 0 && memory < MOST_MEMORY, "{mib:.1} MiB");
    assert!(used * 20 < span, "{used:?} of processor in {span:?} is more than a twentieth");
}

/// A job takes several of the daemon's descriptors, and most systems allow it 1,024 at first.
#[test]
fn the_limit_of_descriptors_is_no_limit_of_jobs() {
    const LIMITED: &str = "ulimit -S -n 64; exec \"$0\" daemon run --id w1 --nats \"$1\" --state-dir \"$2\"";
    const JOBS: usize = 24;
    let server = Server::start();
    for containment in ["best", "reaper"] {
        let place = Place::new();
        let words = [env!("CARGO_BIN_EXE_d").into(), server.url(), place.state().display().to_string()];
        let command = place.d(&[]).instead("sh").env("PEERBUS_CONTAINMENT", containment);
        let mut daemon = command.with(|sh| _ = sh.args(["-c", LIMITED]).args(words)).spawn();
        ready(&mut daemon);
        let mut raw = Raw::connect(&server.url());
        let inbox = raw.new_inbox();
        let heard = raw.subscribe(&inbox);
        let open = place.0.path().join("open");
        let line = format!("ulimit -S -n; while [ ! -e {} ]; do sleep 0.1; done", open.display());
        let request = serde_json::json!({"directory": "/", "shell_cmd": line}).to_string();
        for _ in 0..JOBS {
            raw.publish_reply("exec.w1", &inbox, &request);
        }
        eventually(READY_DEADLINE, "all jobs to run at once", || {
            let beat = raw.request("exec.w1.ping", "", SOON).json();
            (beat["jobs"].as_u64() == Some(JOBS as u64)).then_some(())
        });
        fs::write(&open, "").unwrap();
        for _ in 0..JOBS {
            let answer = raw.expect_on(heard, READY_DEADLINE, "an answer").json();
            assert_eq!(answer["stdout"], "64\n", "{containment}: {answer}");
        }
        stop(&mut daemon);
    }
}
