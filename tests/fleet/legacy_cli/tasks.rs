//! `remotePull`, `remoteBd`, `remoteDeployDaemon`, and `task run`, which they stand on.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::fleet::{DCommand, Fleet};
use crate::harness::nats::{Message, Raw};
use crate::harness::scratch::Scratch;

const SOON: std::time::Duration = std::time::Duration::from_secs(20);

/// A leader and a worker, and a person whose configuration says this.
struct Scene {
    fleet: Fleet,
    configuration: String,
}

impl Scene {
    fn new(configuration: impl FnOnce(&Path) -> String) -> Self {
        let fleet = Fleet::builder().leader("lead").worker("vps").start();
        let configuration = configuration(fleet.path());
        let configuration = fleet.file("person.toml", configuration).display().to_string();
        Self { fleet, configuration }
    }

    fn d(&self, words: &[&str]) -> DCommand {
        self.fleet.command(words).env("PEERBUS_CONFIG", &self.configuration)
    }
}

fn git(directory: &Path, words: &[&str]) {
    let name = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"];
    let done = Command::new("git").current_dir(directory).args(name).args(words).output().unwrap();
    assert!(done.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A repository, and a clone of it that lacks the last commit.
fn repository(at: &Path) {
    let origin = at.join("origin");
    fs::create_dir_all(&origin).unwrap();
    git(&origin, &["init", "-q"]);
    fs::write(origin.join("build.sh"), "export BUILT=yes\necho \"built in $PWD\" | tee built\n").unwrap();
    git(&origin, &["add", "."]);
    git(&origin, &["commit", "-qm", "first"]);
    git(at, &["clone", "-q", "origin", "clone"]);
    fs::write(origin.join("new"), "new\n").unwrap();
    git(&origin, &["add", "."]);
    git(&origin, &["commit", "-qm", "second"]);
}

fn here(at: &Path) -> String {
    repository(at);
    let clone = at.join("clone").display().to_string();
    let mark = at.join("restarted").display().to_string();
    format!(
        "[tasks.pull]\ndirectory = \"{clone}\"\n\n[tasks.build]\ndirectory = \"{clone}\"\n\
         steps = [\"source ./build.sh && test $BUILT = yes\", \"touch '{mark}'\"]\n"
    )
}

#[test]
fn a_repository_is_pulled_and_built() {
    let scene = Scene::new(here);
    let at = scene.fleet.path();
    let pulled = scene.d(&["remotePull", "--peer", "vps"]).run().expect_success();
    assert!(pulled.out().contains("Fast-forward"), "{pulled:?}");
    assert_eq!(fs::read_to_string(at.join("clone/new")).unwrap(), "new\n");
    let again = scene.d(&["remotePull", "--peer", "vps"]).run().expect_success();
    assert_eq!(again.out(), "Already up to date.\n", "stdout is the command's alone");
    let built = scene.d(&["remoteBd", "--peer", "vps"]).run().expect_success();
    assert_eq!(built.out(), format!("built in {}\n", at.join("clone").display()));
    assert!(at.join("clone/built").exists() && at.join("restarted").exists());
    let steps = |err: String| -> Vec<String> {
        err.lines().map(|line| line.split(" in ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(steps(built.err()), ["d: vps: build 1/2", "d: vps: build 2/2"]);
}

#[test]
fn deploying_stops_at_the_first_step_that_fails() {
    let scene = Scene::new(here);
    let at = scene.fleet.path();
    fs::write(at.join("origin/build.sh"), "echo broken >&2; return 9\n").unwrap();
    git(&at.join("origin"), &["commit", "-qam", "broken"]);
    let said = scene.d(&["remoteDeployDaemon", "--peer", "vps"]).run().expect_code(9);
    assert!(at.join("clone/new").exists(), "pulled");
    assert!(!at.join("restarted").exists(), "and not gone on with");
    assert!(said.out().contains("Fast-forward"));
    let err = said.err();
    assert!(err.lines().any(|line| line == "broken"), "{err}");
    assert_eq!(err.lines().last(), Some("d: vps: deploy stopped at step 2 of 3: it exited 9"));
}

#[test]
fn the_directories_of_old_are_the_default() {
    let scene = Scene::new(|_| String::new());
    for (command, directory) in [
        ("remotePull", "/opt/automateLinux"),
        ("remoteBd", "/opt/automateLinux/daemon"),
        ("remoteDeployDaemon", "/opt/automateLinux"),
    ] {
        assert!(!Path::new(directory).exists(), "this test needs a machine without {directory}");
        let said = scene.d(&[command, "--peer", "vps"]).run().expect_code(249);
        assert!(said.err().contains(&format!("directory {directory}")), "{said:?}");
    }
    let listed = scene.d(&["task", "list", "--json"]).run().expect_success().out();
    let tasks: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = tasks.iter().map(|task| task["task"].as_str().unwrap()).collect();
    assert_eq!(names, ["build", "deploy", "pull"]);
    let last = tasks[1]["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(last["line"], "systemctl --no-block restart peerbus.service");
}

#[test]
fn a_task_of_ones_own_on_several_peers() {
    let scene = Scene::new(|at| {
        let at = at.display();
        format!(
            "[tasks.hello]\ndirectory = \"{at}\"\nsteps = [\"echo $GREETING $PEERBUS_PEER\"]\nenv = {{ GREETING = \"hi\" }}\n\
             [tasks.late]\ndirectory = \"{at}\"\nsteps = [\"sleep 60\"]\ntimeout = \"300ms\"\n"
        )
    });
    let said = scene.d(&["task", "run", "hello", "vps", "lead"]).run().expect_success();
    assert_eq!(said.out(), "hi vps\nhi lead\n");
    let said = scene.d(&["task", "run", "hello", "nobody", "vps"]).run().expect_code(254);
    assert_eq!(said.out(), "hi vps\n", "the others have their turn");
    scene.d(&["task", "run", "late", "vps"]).run().expect_code(252);
    let listed = scene.d(&["task", "list", "--json"]).run().expect_success().out();
    assert!(listed.contains("GREETING") && !listed.contains("\"hi\""), "values are not shown: {listed}");
}

#[test]
fn mistakes_in_and_about_tasks() {
    let scratch = Scratch::new();
    let run = |configuration: &str, words: &[&str]| {
        let path = scratch.file("c.toml", configuration);
        DCommand::new(scratch.path(), words).env("PEERBUS_CONFIG", path).run().expect_code(2).err()
    };
    let said = run("", &["task", "run", "pul", "vps"]);
    assert_eq!(said, "d: there is no task \"pul\"; there are: build, deploy, pull\n");
    let said = run("[tasks.x]\nstep = []\n", &["task", "list"]);
    assert!(said.contains("line 2") && said.contains("step"), "{said}");
    let said = run("[tasks.x]\nsteps = [\"true\"]\n", &["task", "run", "x", "vps"]);
    assert!(said.contains("\"x\" names no directory"), "{said}");
    assert!(run("", &["task", "run", "pull"]).contains("<PEER>"));
}

/// The person wanted all of it to end, also where a step takes the interrupt and ends well.
#[test]
fn an_interrupt_ends_all_that_was_to_come() {
    let steps = "[tasks.long]\ndirectory = \"/\"\nsteps = [\"trap 'exit 0' INT; echo here; sleep 60 & wait\", \"echo next\"]\n";
    let scene = Scene::new(|_| steps.to_owned());
    for (peers, said) in [
        (&["vps"][..], "vps: long stopped at step 1 of 2: it was interrupted"),
        (&["vps", "lead", "third"], "long is not begun on lead, third"),
    ] {
        let mut live = scene.d(&[&["task", "run", "long"], peers].concat()).spawn();
        live.stdout_line(SOON, |line| line == "here");
        live.signal(Signal::SIGINT);
        let done = live.wait(SOON).expect_code(130);
        assert_eq!(done.out(), "here\n");
        assert!(done.err().contains(said), "{done:?}");
    }
}

/// Nothing is under way yet, so nothing begins.
#[test]
fn an_interrupt_before_anything_was_sent_ends_it() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bus = format!("nats://{}", silent.local_addr().unwrap());
    let scratch = Scratch::new();
    let words = ["exec", "vps", "--nats", &bus, "--connect-timeout", "60s", "--", "true"];
    let mut live = DCommand::new(scratch.path(), words).spawn();
    // It has connected, and hears nothing.
    let _connection = silent.accept().unwrap();
    live.signal(Signal::SIGINT);
    let done = live.wait(SOON).expect_code(130);
    assert_eq!(done.err(), "d: cancelled: before anything was sent\n");
}

/// The next request that is none of those seen: one that has not been answered soon enough comes again.
#[track_caller]
fn next_new(raw: &mut Raw, requests: u64, seen: &mut Vec<Value>) -> Message {
    loop {
        let asked = raw.expect_on(requests, SOON, "a request");
        let id = asked.json()["id"].clone();
        if !seen.contains(&id) {
            seen.push(id);
            return asked;
        }
    }
}

/// A peer of an older version, which knows no durable jobs, runs each step as any other command.
#[test]
fn an_older_peer_is_given_one_step_after_the_other() {
    let fleet = Fleet::builder().start();
    let tasks = "[tasks.up]\ndirectory = \"/\"\nsteps = [\"one\", \"two\", \"never\"]\n";
    let configuration = fleet.file("person.toml", tasks);
    let mut raw = Raw::connect(&fleet.url());
    let requests = raw.subscribe("exec.w1");
    let mut live = fleet.command(["task", "run", "up", "w1"]).env("PEERBUS_CONFIG", configuration).spawn();
    let mut seen = Vec::new();
    let no_task =
        json!({ "refused": { "why": "not_supported", "message": "this daemon has no durable jobs" } });
    let (fine, failed) = (json!({ "exited": { "code": 0 } }), json!({ "exited": { "code": 4 } }));
    for (line, ending) in [(None, no_task), (Some("one"), fine), (Some("two"), failed)] {
        let asked = next_new(&mut raw, requests, &mut seen);
        let (request, reply) = (asked.json(), asked.reply.clone().unwrap());
        assert_eq!(request["shell_cmd"].as_str(), line, "{request}");
        assert_eq!(request["durable"] == true, line.is_none(), "{request}");
        let empty = json!({ "bytes": 0, "blake3": blake3::hash(b"").to_hex().to_string() });
        let instance = "11111111-2222-4333-8444-555555555555";
        let result = json!({
            "type": "peerbus.result.v1", "id": request["id"], "peer": "w1", "instance": instance, "ending": ending,
            "out": empty, "err": empty, "duration_ms": 1, "killed": 0, "left_running": 0, "output_open": false,
        });
        let accepted = json!({ "instance": instance, "state": "ended", "stdin_received": 0, "signals": 0 });
        for (seq, kind, body) in [("1", "accepted", accepted), ("2", "result", result)] {
            let headers = [("D-Epoch", "1"), ("D-Seq", seq), ("D-Kind", kind)];
            raw.publish_headers(&reply, "exec.w1.x.credit", &headers, body.to_string());
        }
    }
    let done = live.wait(SOON).expect_code(4);
    let said =
        "d: w1: up 1/3 in /: one\nd: w1: up 2/3 in /: two\nd: w1: up stopped at step 2 of 3: it exited 4\n";
    assert_eq!(done.err(), said);
}
