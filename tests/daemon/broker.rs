//! The managed broker: a nats-server of the daemon's own, for those who have none.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::child::{Finished, Live};
use crate::harness::fleet::{DCommand, Fleet, READY_DEADLINE, TERMINATE_DEADLINE};
use crate::harness::nats::{Login, Raw};
use crate::harness::procs;
use crate::harness::scratch::Scratch;
use crate::harness::server;
use crate::harness::wait::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(20);

/// One machine: daemons and people on it share the runtime directory.
struct Machine(Scratch);

impl Machine {
    fn new() -> Machine {
        Machine(Scratch::new())
    }

    fn state(&self, id: &str) -> PathBuf {
        self.0.path().join(format!("state-{id}"))
    }

    fn broker_file(&self, name: &str) -> PathBuf {
        self.state("lead").join("broker").join(name)
    }

    fn token(&self) -> String {
        fs::read_to_string(self.broker_file("token")).unwrap().trim().to_owned()
    }

    fn d(&self, arguments: &[&str]) -> DCommand {
        DCommand::new(self.0.path(), arguments).env("PEERBUS_NATS_SERVER", server::program())
    }

    fn daemon(&self, id: &str, flags: &[&str]) -> DCommand {
        let state = self.state(id);
        let words = [&["daemon", "run", "--id", id, "--state-dir", state.to_str().unwrap()], flags];
        self.d(&words.concat())
    }

    /// A leader with a broker that listens there, ready, and the broker's URL.
    fn leader(&self, listen: &str) -> (Live, String) {
        let flags = ["--role", "leader", "--broker", "managed", "--broker-listen", listen];
        self.ready(&[&flags[..], &["--nats", "nats://127.0.0.1:1"]].concat())
    }

    /// A leader with these flags, ready, and the URL of its bus.
    fn ready(&self, flags: &[&str]) -> (Live, String) {
        const START: &str = "ready peer=lead nats=";
        eventually(SOON, "a leader that is ready", || {
            let mut leader = self.daemon("lead", flags).spawn();
            // While nobody listened, someone's outgoing connection may have got the port for a moment.
            let line = leader.stderr_line(READY_DEADLINE, |line| {
                line.starts_with(START) || line.contains("address already in use")
            });
            line.strip_prefix(START).map(|url| (leader, url.to_owned()))
        })
    }

    /// Waits until a command runs on a peer, as `d` would be run on this machine.
    #[track_caller]
    fn wait_until_works(&self, url: &str, peer: &str) {
        let exec = || {
            let finished = self.d(&["exec", peer, "-C", "/", "--", "echo", "ran"]).nats(url).run();
            (finished.code() == Some(0)).then(|| finished.out())
        };
        assert_eq!(eventually(SOON, "a command to run", exec), "ran\n");
    }
}

/// The one nats-server a daemon started.
#[track_caller]
fn broker_of(daemon: &Live) -> i32 {
    let is_server = |process: &procs::Process| process.arguments.iter().any(|word| word.ends_with(".conf"));
    let below = procs::descendants(daemon.pid());
    let found: Vec<i32> = below.iter().filter(|at| is_server(at)).map(|at| at.pid).collect();
    assert_eq!(found.len(), 1, "one server below the daemon: {below:#?}");
    found[0]
}

#[track_caller]
fn wait_until_gone(pid: i32) {
    eventually(SOON, "the process to be gone", || procs::look_at(pid).is_none().then_some(()));
}

fn stop(daemon: &mut Live) -> Finished {
    daemon.signal(Signal::SIGTERM);
    daemon.wait(TERMINATE_DEADLINE).expect_success()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn with_token(token: &str) -> Login {
    Login { token: Some(token.to_owned()), ..Login::default() }
}

#[test]
fn a_leader_brings_its_own_broker_which_wants_a_token() {
    let machine = Machine::new();
    let (mut leader, url) = machine.leader("127.0.0.1:0");
    let port: u16 = url.strip_prefix("nats://127.0.0.1:").unwrap().parse().unwrap();
    assert_ne!(port, 0);
    let program = fs::canonicalize(format!("/proc/{}/exe", broker_of(&leader))).unwrap();
    assert_eq!(program, fs::canonicalize(which(&server::program().to_string_lossy())).unwrap());

    let token = machine.token();
    assert!(token.len() >= 32, "{token}");
    let shared = machine.0.path().join(format!("run/broker-127.0.0.1-{port}.token"));
    assert_eq!(fs::read_to_string(&shared).unwrap().trim(), token);
    for file in [&machine.broker_file("token"), &machine.broker_file("nats-server.conf"), &shared] {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    assert_eq!(mode(&machine.state("lead").join("broker")), 0o700);

    // Nobody gets in without it, and those of this machine find it by themselves.
    for login in [Login::default(), with_token("wrong")] {
        let refused = Raw::try_connect(&url, &login).err().expect("a refusal").to_string();
        assert!(refused.contains("Authorization"), "{refused}");
    }
    let mut raw = Raw::connect_as(&url, &with_token(&token));
    assert_eq!(raw.info()["auth_required"], true);
    let mut worker = machine.daemon("w1", &["--nats", &url]).spawn();
    worker.stderr_line(READY_DEADLINE, |line| line == format!("ready peer=w1 nats={url}"));
    machine.d(&["exec", "w1", "-C", "/", "--", "true"]).nats(&url).run().expect_success();
    machine.d(&["exec", "lead", "-C", "/", "--", "true"]).nats(&url).run().expect_success();
    let local = url.replace("127.0.0.1", "localhost");
    machine.d(&["ping", "w1", "--timeout", "20s"]).nats(&local).run().expect_success();
    let elsewhere = Machine::new();
    let refused = elsewhere.d(&["ping", "w1"]).nats(&url).run().expect_code(255);
    assert!(refused.err().contains("uthorization"), "{refused:?}");

    // The secret is in those files only.
    for process in [leader.pid(), worker.pid(), broker_of(&leader)] {
        let process = procs::look_at(process).unwrap();
        assert!(!process.arguments.concat().contains(&token), "{process:?}");
        assert!(!procs::environment(process.pid).concat().contains(&token), "{process:?}");
    }
    let environment = machine.d(&["exec", "lead", "-C", "/", "--", "env"]).nats(&url).run();
    assert!(!environment.expect_success().out().contains(&token));
    assert!(raw.request("exec.w1.ping", "", SOON).json()["instance"].is_string());
    let said = [stop(&mut worker), stop(&mut leader)];
    for finished in &said {
        assert!(!finished.err().contains(&token), "{finished:?}");
    }
    assert!(!shared.exists(), "what is shared is taken back");
    let kept = ["token", "nats-server.conf"].map(|name| machine.broker_file(name));
    for file in files_below(machine.0.path()) {
        let text = fs::read(&file).unwrap();
        let holds = text.windows(token.len()).any(|window| window == token.as_bytes());
        assert!(!holds || kept.contains(&file), "{}", file.display());
    }
}

/// Where a program is, as a shell would find it.
fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let places = std::env::split_paths(&path).map(|place| place.join(program));
    std::iter::once(PathBuf::from(program)).chain(places).find(|place| place.is_file()).unwrap()
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn a_broker_that_is_killed_is_started_again_where_it_was() {
    let machine = Machine::new();
    let (mut leader, url) = machine.leader("127.0.0.1:0");
    let mut worker = machine.daemon("w1", &["--nats", &url]).spawn();
    worker.stderr_line(READY_DEADLINE, |line| line.starts_with("ready "));
    let token = machine.token();
    for _ in 0..2 {
        let before = broker_of(&leader);
        kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
        wait_until_gone(before);
        machine.wait_until_works(&url, "w1");
        machine.wait_until_works(&url, "lead");
        assert_ne!(broker_of(&leader), before);
        assert_eq!(machine.token(), token);
    }
    leader.stderr_line(SOON, |line| line.contains("the broker ended; starting it again"));
    eventually(SOON, "the leader to hear both", || {
        let listed = machine.d(&["listPeers"]).nats(&url).run();
        let rows: serde_json::Value = serde_json::from_str(&listed.out()).ok()?;
        let online = |row: &serde_json::Value| row["is_online"] == true;
        (rows.as_array()?.len() == 2 && rows.as_array()?.iter().all(online)).then_some(())
    });
    stop(&mut worker);
    let broker = broker_of(&leader);
    stop(&mut leader);
    assert!(procs::look_at(broker).is_none(), "a clean stop takes the broker with it");
}

#[test]
fn a_killed_daemon_takes_its_broker_with_it_and_a_new_one_keeps_the_token() {
    let machine = Machine::new();
    let (mut leader, url) = machine.leader("127.0.0.1:0");
    let (broker, token) = (broker_of(&leader), machine.token());
    leader.kill();
    wait_until_gone(broker);
    assert!(Raw::try_connect(&url, &with_token(&token)).is_err());
    let listen = url.strip_prefix("nats://").unwrap();
    let (mut leader, again) = machine.leader(listen);
    assert_eq!((again, machine.token()), (url.clone(), token));
    machine.wait_until_works(&url, "lead");
    stop(&mut leader);
    assert_eq!(procs::touching(machine.0.path()), vec![]);
}

#[test]
fn a_broker_listens_where_the_bus_is_said_to_be() {
    let machine = Machine::new();
    let (mut leader, url) = machine.leader("127.0.0.1:0");
    stop(&mut leader);
    for named in [url.clone(), url.replace("127.0.0.1", "localhost")] {
        let (mut leader, again) = machine.ready(&["--broker", "managed", "--nats", &named]);
        assert_eq!(again, url);
        machine.d(&["ping", "lead", "--timeout", "20s"]).nats(&named).run().expect_success();
        stop(&mut leader);
    }
}

#[test]
fn streams_are_kept_in_the_state_directory() {
    let machine = Machine::new();
    let (mut leader, url) = machine.leader("127.0.0.1:0");
    let mut raw = Raw::connect_as(&url, &with_token(&machine.token()));
    assert_eq!(raw.info()["jetstream"], true);
    let stream = r#"{"name":"KEPT","subjects":["kept.>"],"storage":"file"}"#;
    let made = raw.request("$JS.API.STREAM.CREATE.KEPT", stream, SOON).json();
    assert!(made["error"].is_null(), "{made}");
    assert_eq!(raw.request("kept.x", "one", SOON).json()["seq"], 1);
    let store = machine.broker_file("jetstream");
    assert!(!files_below(&store).is_empty(), "{}", store.display());
    stop(&mut leader);
    let (mut leader, url) = machine.leader("127.0.0.1:0");
    let mut raw = Raw::connect_as(&url, &with_token(&machine.token()));
    let info = raw.request("$JS.API.STREAM.INFO.KEPT", "", SOON).json();
    assert_eq!(info["state"]["messages"], 1, "{info}");
    stop(&mut leader);
}

#[test]
fn addresses_that_strangers_reach_are_refused() {
    let machine = Machine::new();
    for address in [
        "0.0.0.0",
        "0.0.0.0:4222",
        "[::]:4222",
        "::",
        "8.8.8.8:4222",
        "[2001:db8::1]:1",
        "localhost:4222",
        "host",
    ] {
        let flags = ["--role", "leader", "--broker", "managed", "--broker-listen", address];
        let refused = machine.daemon("lead", &flags).run().expect_code(2);
        let bare = address.split(":4222").next().unwrap().trim_start_matches('[').split("]").next().unwrap();
        assert!(refused.err().contains(bare), "{address}: {refused:?}");
        assert!(!machine.state("lead").exists(), "nothing was begun");
    }
    // Nor where the bus is said to be.
    for host in ["0.0.0.0", "8.8.8.8", "broker.example"] {
        let url = format!("nats://{host}:4222");
        let managed = ["--broker", "managed"];
        let by_flag = machine.daemon("lead", &[&managed[..], &["--nats", &url]].concat()).run();
        let by_environment = machine.daemon("lead", &managed).nats(&url).run();
        for refused in [by_flag.expect_code(2), by_environment.expect_code(2)] {
            assert!(refused.err().contains(host), "{refused:?}");
        }
    }
    let alone = machine.daemon("lead", &["--broker-listen", "127.0.0.1:0"]).run().expect_code(2);
    assert!(alone.err().contains("--broker managed"), "{alone:?}");
    machine.daemon("lead", &["--broker", "mine"]).run().expect_code(2);
}

#[test]
fn without_a_server_program_it_says_what_is_missing() {
    let machine = Machine::new();
    let flags = ["--role", "leader", "--broker", "managed", "--broker-listen", "127.0.0.1:0"];
    let missing = machine.0.path().join("no-such-server");
    let finished = machine.daemon("lead", &flags).env("PEERBUS_NATS_SERVER", &missing).run().expect_code(1);
    let err = finished.err();
    assert!(err.contains(missing.to_str().unwrap()) && err.contains("is a nats-server installed?"), "{err}");
    let nowhere = machine.0.directory("empty");
    let command = machine.daemon("lead", &flags).env_remove("PEERBUS_NATS_SERVER").env("PATH", nowhere);
    let err = command.run().expect_code(1).err();
    assert!(err.contains("nats-server") && err.contains("is a nats-server installed?"), "{err}");
    // A program that is something else.
    let command = machine.daemon("lead", &flags).env("PEERBUS_NATS_SERVER", which("false"));
    let err = command.run().expect_code(1).err();
    assert!(err.contains("false"), "it names the program: {err}");
    let state: serde_json::Value =
        serde_json::from_slice(&fs::read(machine.state("lead").join("state.json")).unwrap()).unwrap();
    assert_eq!(state["state"], "failed", "{state}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let machine = Machine::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let flags = ["--role", "leader", "--broker", "managed", "--broker-listen", &address];
    let mut daemon = machine.daemon("lead", &flags).spawn();
    let finished = daemon.wait(SOON).expect_code(1);
    let err = finished.err();
    assert!(err.contains(&address) && err.contains("address already in use"), "{err}");
    assert!(!err.contains("ready peer="), "{err}");
    assert_eq!(procs::touching(&machine.state("lead")), vec![], "no server is left");
}

#[test]
fn a_token_file_without_a_token_is_named() {
    let machine = Machine::new();
    let (mut leader, _) = machine.leader("127.0.0.1:0");
    stop(&mut leader);
    let file = machine.broker_file("token");
    fs::write(&file, "\n").unwrap();
    let flags = ["--role", "leader", "--broker", "managed", "--broker-listen", "127.0.0.1:0"];
    let finished = machine.daemon("lead", &flags).run().expect_code(1);
    assert!(finished.err().contains(file.to_str().unwrap()), "{finished:?}");
}

#[test]
fn a_worker_can_manage_the_broker_and_the_leader_be_elsewhere() {
    let machine = Machine::new();
    let flags = ["--broker", "managed", "--broker-listen", "127.0.0.1:0"];
    let mut worker = machine.daemon("w1", &flags).spawn();
    let line = worker.stderr_line(READY_DEADLINE, |line| line.starts_with("ready peer=w1 "));
    let url = line.strip_prefix("ready peer=w1 nats=").unwrap();
    let mut leader = machine.daemon("lead", &["--role", "leader", "--nats", url]).spawn();
    leader.stderr_line(READY_DEADLINE, |line| line.starts_with("ready peer=lead "));
    machine.wait_until_works(url, "lead");
    stop(&mut leader);
    stop(&mut worker);
}

/// A machine may be given its leader by way of the bus: stopping that job must not take the bus away.
#[test]
fn a_broker_started_by_a_job_does_not_belong_to_it() {
    let fleet = Fleet::of_workers(["w1"]);
    let state = fleet.directory("lead");
    let variables = [
        format!("PEERBUS_NATS_SERVER={}", server::program().display()),
        format!("PEERBUS_RUNTIME_DIR={}", fleet.directory("run").display()),
    ];
    let mut words = vec!["exec", "w1", "-C", "/"];
    words.extend(variables.iter().flat_map(|variable| ["--env", variable.as_str()]));
    words.extend(["--", env!("CARGO_BIN_EXE_d"), "daemon", "run", "--id", "lead", "--role", "leader"]);
    words.extend(["--broker", "managed", "--broker-listen", "127.0.0.1:0"]);
    words.extend(["--state-dir", state.to_str().unwrap()]);
    let mut job = fleet.spawn_d(words);
    job.stderr_line(READY_DEADLINE, |line| line.starts_with("ready peer=lead"));
    let broker = procs::touching(&state)
        .into_iter()
        .find(|process| process.arguments.first().is_some_and(|program| program.ends_with("nats-server")));
    let broker = broker.expect("a broker runs");
    let place = fs::read_to_string(format!("/proc/{}/cgroup", broker.pid)).unwrap();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert!(own.contains("0::/"), "cgroups of version 2 are missing: without them no job has one; {own}");
    assert!(!place.contains("/job-"), "it is in the cgroup of the job: {place}");
}

/// Some supervisors and shells ignore SIGCHLD or block signals, and leave that to what they start.
#[test]
fn signals_that_the_parent_ignored_or_blocked_change_nothing() {
    const SET: [&str; 3] = ["--ignore-signal=CHLD,TERM,HUP,PIPE", "--block-signal", env!("CARGO_BIN_EXE_d")];
    let machine = Machine::new();
    let state = machine.state("lead");
    let flags = ["--role", "leader", "--broker", "managed", "--broker-listen", "127.0.0.1:0", "--id", "lead"];
    let mut daemon = machine
        .d(&[])
        .instead("env")
        .with(|env| _ = env.args(SET).args(["daemon", "run", "--state-dir"]).arg(&state).args(flags))
        .spawn();
    let ready = daemon.stderr_line(READY_DEADLINE, |line| line.starts_with("ready "));
    let url = ready.rsplit_once("nats=").unwrap().1.to_owned();
    let ask = |words: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        machine.d(&[]).instead("env").nats(&url).with(|env| _ = env.args(SET).args(words)).spawn()
    };
    let set = "grep -E 'Sig(Blk|Ign)' /proc/self/status";
    for durable in [&["exec", "lead", "-C", "/"][..], &["exec", "lead", "-C", "/", "--durable"]] {
        let line = format!("{set}; sh -c 'exit 4'; echo $?; exit 3");
        let ran = ask(&[durable, &["--sh", &line]].concat()).wait(SOON).expect_code(3);
        assert_eq!(ran.out(), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n4\n");
    }
    // Where Ctrl-C was blocked it is heard all the same.
    let mut caller = ask(&["exec", "lead", "-C", "/", "--sh", "echo up; exec sleep 100"]);
    caller.stdout_line(SOON, |line| line == "up");
    caller.signal(Signal::SIGINT);
    caller.wait(SOON).expect_code(130);
    // The broker, which would inherit as much, ends with TERM as well.
    let broker = procs::touching(&state)
        .into_iter()
        .find(|process| process.arguments.first().is_some_and(|program| program.ends_with("nats-server")));
    let status = fs::read_to_string(format!("/proc/{}/status", broker.expect("a broker runs").pid)).unwrap();
    assert!(status.contains("SigIgn:\t0000000000000000"), "{status}");
    daemon.signal(Signal::SIGTERM);
    daemon.wait(TERMINATE_DEADLINE).expect_success();
}
