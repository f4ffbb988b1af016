//! A task is one durable job: it goes on whatever becomes of who asked for it and of the daemon, and whoever comes
//! later sees the whole of it.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::bench::{SOON, all_are_known, listed};
use crate::harness::fleet::{DCommand, DaemonOptions, Fleet};
use crate::harness::wait::eventually;

/// A leader and a worker, and tasks of a person: their steps may wait for files.
struct Scene {
    fleet: Fleet,
    configuration: String,
}

impl Scene {
    fn new(tasks: impl FnOnce(&Path) -> String) -> Scene {
        let fleet = Fleet::builder().leader("lead").worker("w1").start();
        all_are_known(&fleet, 2);
        let configuration = fleet.file("tasks.toml", tasks(fleet.path())).display().to_string();
        Scene { fleet, configuration }
    }

    fn run(&self, task: &str) -> DCommand {
        self.fleet.command(["task", "run", task, "w1"]).env("PEERBUS_CONFIG", &self.configuration)
    }

    /// What a step waits for comes.
    fn let_go(&self, file: &str) {
        fs::write(self.fleet.path().join(file), "").unwrap();
    }
}

fn until(at: &Path, file: &str) -> String {
    format!("until [ -e '{}' ]; do sleep 0.02; done", at.join(file).display())
}

#[test]
fn it_outlives_who_asked_for_it_and_the_daemon() {
    let scene = Scene::new(|at| {
        let (first, second) = (until(at, "first"), until(at, "second"));
        format!(
            "[tasks.get]\ndirectory = \"/tmp\"\nsteps = [\"echo begun; {first}\"]\nenv = {{ WHAT = 'secret' }}\n\
             [tasks.make]\ndirectory = \"/\"\nsteps = [\"echo $PWD $WHAT; {second}\", \"exit 9\", \"echo never\"]\n\
             [tasks.up]\ntasks = [\"get\", \"make\"]\n"
        )
    });
    let fleet = &scene.fleet;
    let mut d = scene.run("up").spawn();
    d.stdout_line(SOON, |line| line == "begun");
    let row = listed(fleet, &["w1"]).remove(0);
    assert_eq!((&row["name"], &row["step"]), (&json!("up"), &json!({ "n": 1, "of": 4 })), "{row}");
    let command = row["command"].as_str().unwrap();
    assert!(
        command.starts_with("task up: 1/4 in /tmp: echo begun;")
            && command.contains("; 4/4 in /: echo never")
    );
    assert!(fleet.d(["jobs", "w1"]).expect_success().out().contains("running 1/4"));
    d.kill();
    scene.let_go("first");
    let reached = |n: u32| {
        eventually(SOON, "the next step", || (listed(fleet, &["w1"])[0]["step"]["n"] == n).then_some(()));
    };
    reached(2);
    // By its name, like a session.
    let mut attached = fleet.spawn_d(["attach", "up"]);
    attached.stdout_line(SOON, |line| line.starts_with("/"));
    let daemon = fleet.daemon("w1");
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    // The next daemon knows how far it is.
    reached(2);
    scene.let_go("second");
    let done = attached.wait(SOON).expect_code(9);
    assert_eq!(done.out(), "begun\n/\n");
    let lines: Vec<String> =
        done.err().lines().map(|line| line.split(" in ").next().unwrap().to_owned()).collect();
    let stopped = "d: w1: up stopped at step 3 of 4: it exited 9";
    assert_eq!(lines, ["d: w1: up 1/4", "d: w1: up 2/4", "d: w1: up 3/4", stopped]);
    fleet.d(["wait", "w1/up"]).expect_code(9);
    let all = fs::read_dir(daemon.state_directory().join("jobs")).unwrap().count();
    assert_eq!(all, 1, "one job");
}

#[test]
fn a_step_has_its_own_time_and_its_own_failure() {
    let scene = Scene::new(|_| {
        "[tasks.good]\ndirectory = \"/\"\nsteps = [\"echo fine\"]\n\
         [tasks.slow]\ndirectory = \"/\"\nsteps = [\"sleep 1\", \"echo late; sleep 1000\"]\ntimeout = \"3s\"\n\
         [tasks.lost]\ndirectory = \"/nowhere\"\nsteps = [\"true\"]\n\
         [tasks.too_late]\ntasks = [\"good\", \"slow\"]\n\
         [tasks.astray]\ntasks = [\"good\", \"lost\"]\n"
            .to_owned()
    });
    let late = scene.run("too_late").run().expect_code(252);
    assert_eq!(late.out(), "fine\nlate\n");
    assert!(late.err().contains("d: w1: too_late stopped at step 3 of 3: it timed out\n"), "{late:?}");
    assert!(late.err().contains("d: timed out: the command was stopped on w1"), "{late:?}");
    let astray = scene.run("astray").run().expect_code(249);
    assert_eq!(astray.out(), "fine\n");
    let said = "d: not started: w1: step 2 of 2: entering directory /nowhere";
    assert!(astray.err().contains(said), "{astray:?}");
    // Where nothing at all has run, that is all there is to say.
    let lost = scene.run("lost").run().expect_code(249);
    assert!(lost.out().is_empty() && lost.err().starts_with("d: not started: w1: step 1 of 1: "), "{lost:?}");
}

/// Ended by a signal, `d` says how to go on; the task does.
#[test]
fn who_is_ended_says_how_to_go_on() {
    let scene = Scene::new(|at| {
        format!(
            "[tasks.up]\ndirectory = \"/\"\nsteps = [\"echo begun; {}\", \"echo next\"]\n",
            until(at, "go")
        )
    });
    let mut d = scene.run("up").spawn();
    d.stdout_line(SOON, |line| line == "begun");
    d.signal(Signal::SIGTERM);
    let left = d.wait(SOON).expect_code(251);
    let shown = left.err();
    let (_, command) = shown.split_once("`d ").expect("what to do");
    let command: Vec<&str> = command.split_once('`').unwrap().0.split(' ').collect();
    scene.let_go("go");
    let rest = scene.fleet.d(&command).expect_success();
    assert_eq!(rest.out(), "next\n");
    assert!(rest.err().starts_with("d: w1: up 2/2 in /: echo next\n"), "{rest:?}");
}

/// Nothing of a task begins where the policy refuses any of its steps.
#[test]
fn a_task_is_allowed_as_a_whole() {
    let fleet = Fleet::builder().start();
    fleet.file("policy.toml", "[[allow]]\nwho = [\"@network\"]\nsh = [\"touch ran\", \"true\"]\n");
    let place = fleet.path().display().to_string();
    let policy = fleet.path().join("policy.toml").display().to_string();
    fleet.add(DaemonOptions::worker("w1").configuration(&format!("policy = \"{policy}\"\n")));
    let tasks = |last: &str| {
        let text = format!("[tasks.up]\ndirectory = \"{place}\"\nsteps = [\"touch ran\", \"{last}\"]\n");
        let file = fleet.file("tasks.toml", text);
        fleet.command(["task", "run", "up", "w1"]).env("PEERBUS_CONFIG", file).run()
    };
    let refused = tasks("id").expect_code(250);
    assert!(
        refused.err().contains("d: refused: w1: up 2/2: the policy of w1 does not allow this"),
        "{refused:?}"
    );
    assert!(!fleet.path().join("ran").exists());
    tasks("true").expect_success();
    assert!(fleet.path().join("ran").exists());
}
