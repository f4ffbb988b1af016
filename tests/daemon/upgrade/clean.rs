//! `d doctor --clean`: what a daemon has left behind is found and stopped, and nothing else is.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use peerbus::protocol::JobId;
use serde_json::{Value, json};

use crate::harness::child::{Live, piped};
use crate::harness::procs;
use crate::harness::wait::eventually;
use crate::upgrade::bench::{Machine, SOON, says};

/// How jobs are kept together.
const WAYS: [&str; 2] = ["best", "reaper"];

/// A daemon's job, whose processes carry the marker.
fn job(machine: &Machine, marker: &str) -> Live {
    let line = format!("echo begun; sh -c 'while :; do sleep 1; done' {marker} & wait");
    let mut live = machine.d(["exec", "w1", "-C", "/", "--sh", &line]).spawn();
    live.stdout_line(SOON, |line| line == "begun");
    live
}

/// The processes that have the marker as an argument of their own, and not in somebody's line.
fn marked(marker: &str) -> Vec<procs::Process> {
    let is_marked = |process: &procs::Process| process.arguments.iter().any(|word| word == marker);
    procs::with_argument(marker).into_iter().filter(is_marked).collect()
}

/// The first of them: a shell's child has the shell's arguments until it is something else.
fn wait_for(marker: &str) -> procs::Process {
    let first = || marked(marker).into_iter().min_by_key(|process| (process.started, process.pid));
    eventually(SOON, "a process of the job", first)
}

/// Whether this very process is there.
fn is_there(process: &procs::Process) -> bool {
    procs::look_at(process.pid).is_some_and(|now| now.started == process.started)
}

fn started(machine: &Machine, way: &str) -> i32 {
    machine.d(["daemon", "start"]).env("PEERBUS_CONTAINMENT", way).run().expect_success();
    i32::try_from(machine.status()["pid"].as_i64().unwrap()).unwrap()
}

/// Kills a daemon and everything that would see to its jobs.
fn crash(pid: i32) {
    let is_reaper = |process: &procs::Process| process.arguments.get(1).is_some_and(|word| word == "reaper");
    let reapers: Vec<_> = procs::descendants(pid).into_iter().filter(is_reaper).collect();
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    procs::kill_all(&reapers);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually(SOON, "its end", || procs::look_at(pid).is_none().then_some(()));
}

fn clean(machine: &Machine, more: &[&str]) -> crate::harness::child::Finished {
    machine.d([&["doctor", "--clean"], more].concat()).run()
}

fn found(machine: &Machine, more: &[&str]) -> Vec<Value> {
    let finished = clean(machine, &[&["--json"], more].concat());
    let report: Value = serde_json::from_str(&finished.out()).unwrap_or_else(|_| panic!("{finished:?}"));
    assert_eq!(report["state_dir"], machine.state().display().to_string());
    report["orphans"].as_array().unwrap().clone()
}

#[test]
fn the_jobs_of_a_daemon_that_died() {
    for way in WAYS {
        let machine = Machine::new();
        let pid = started(&machine, way);
        let marker = procs::marker();
        let mut caller = job(&machine, &marker);
        assert_eq!(
            clean(&machine, &["--yes"]).expect_success().out().lines().count(),
            1,
            "it is the daemon's own"
        );
        wait_for(&marker);
        crash(pid);
        caller.kill();
        let left = wait_for(&marker);
        let shown = clean(&machine, &[]).expect_code(1);
        says(&shown, &["nothing was stopped", "--yes"]);
        for words in ["its daemon died", &format!("process {}", left.pid), "while :; do sleep 1; done"] {
            assert!(shown.out().contains(words), "{words}: {shown:?}");
        }
        assert!(is_there(&left), "it was only shown");
        let orphans = found(&machine, &["--yes"]);
        assert_eq!((orphans.len(), &orphans[0]["kind"]), (1, &"job".into()), "{way}: {orphans:?}");
        assert!(orphans[0]["processes"].as_array().unwrap().contains(&left.pid.into()), "{orphans:?}");
        assert!(orphans[0]["stopped"].as_u64().unwrap() >= 1);
        procs::wait_until_gone(&marker, SOON);
        assert!(clean(&machine, &[]).expect_success().out().starts_with("nothing was left running"));
        // Its ending is known, as after the next start of a daemon.
        started(&machine, way);
        let job = orphans[0]["id"].as_str().unwrap();
        assert!(machine.state().join("journal/ended").join(job).exists());
    }
}

#[test]
fn what_only_looks_like_it_is_left_alone() {
    for way in WAYS {
        let machine = Machine::new();
        let marker = procs::marker();
        // The same of another state directory, on the same machine and bus.
        let other = machine.fleet.path().join("state-other");
        let there = |words: &[&str]| {
            let d = machine.d(words).env("PEERBUS_STATE_DIR", &other).env("PEERBUS_PEER_ID", "other");
            d.env("PEERBUS_CONTAINMENT", way).run()
        };
        let said = there(&["daemon", "start"]).expect_success().out();
        let pid = said.split_whitespace().find_map(|word| word.strip_prefix("pid=")?.parse().ok()).unwrap();
        let line = format!("echo begun; sh -c 'while :; do sleep 1; done' {marker}-other & wait");
        let mut caller = machine.d(["exec", "other", "-C", "/", "--sh", &line]).spawn();
        caller.stdout_line(SOON, |line| line == "begun");
        crash(pid);
        caller.kill();
        // What a job of ours has left on purpose.
        let own = started(&machine, way);
        let line = format!(
            "setsid sh -c 'while :; do sleep 1; done' {marker}-left >/dev/null 2>&1 </dev/null & true"
        );
        machine.d(["exec", "w1", "-C", "/", "--sh", &line]).run().expect_success();
        // Names, arguments and variables as ours have them.
        let mut alike: Vec<Live> =
            [("d", "reaper"), ("d", "shim"), (machine.program.to_str().unwrap(), "daemon")]
                .map(|(name, verb)| {
                    let mut command = piped("sh");
                    command.arg0(name).args([
                        "-c",
                        "while :; do sleep 1; done",
                        verb,
                        &format!("{marker}-alike"),
                    ]);
                    command
                        .env("PEERBUS_JOB", JobId::new().to_string())
                        .env("PEERBUS_STATE_DIR", machine.state());
                    Live::start("a look-alike", command).unwrap()
                })
                .into();
        // A shell that is about to begin `sleep` is there twice, for an instant.
        let all = |alike: &mut Vec<Live>, what: &str| {
            for end in ["other", "left"] {
                assert!(!marked(&format!("{marker}-{end}")).is_empty(), "{end}, {way}, {what}");
            }
            assert!(alike.iter_mut().all(|live| live.ended().is_none()), "{way}, {what}");
        };
        wait_for(&format!("{marker}-left"));
        assert_eq!(found(&machine, &["--yes"]), Vec::<Value>::new());
        all(&mut alike, "while a daemon runs");
        crash(own);
        assert_eq!(found(&machine, &["--yes"]), Vec::<Value>::new());
        all(&mut alike, "while none does");
        // And the other's are found where they belong.
        let finished = there(&["doctor", "--clean", "--yes"]).expect_success();
        assert!(finished.out().contains("its daemon died"), "{finished:?}");
        procs::wait_until_gone(&format!("{marker}-other"), SOON);
        assert!(!marked(&format!("{marker}-left")).is_empty());
        procs::kill_all(&procs::with_argument(&marker));
        alike.iter_mut().for_each(|live| _ = live.kill());
    }
}

/// A process that holds the lock of a job, as a shim does.
fn shim(state: &Path, job: JobId, marker: &str) -> (Live, PathBuf) {
    let place = state.join("jobs").join(job.to_string());
    fs::create_dir_all(&place).unwrap();
    let mut command = piped("sh");
    let line = format!("exec 9>'{}/lock'; flock 9; echo held; while :; do sleep 1; done", place.display());
    command.args(["-c", &line, "shim", marker]);
    let mut live = Live::start("a shim", command).unwrap();
    live.stdout_line(SOON, |line| line == "held");
    let seen = procs::look_at(live.pid()).unwrap();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned();
    let about = json!({
        "v": 1,
        "job": job,
        "shim": { "pid": live.pid(), "start_time": seen.started, "boot_id": boot_id },
        "job_scope": { "reaper": { "lock": state.join("reapers").join(format!("{job}.lock")) } },
        "of_a_later_version": true,
    });
    fs::write(place.join("shim.json"), about.to_string()).unwrap();
    (live, place)
}

#[test]
fn shims_that_no_daemon_will_find() {
    let machine = Machine::new();
    machine.started();
    let marker = procs::marker();
    let (mut lost, _) = shim(&machine.state(), JobId::new(), &marker);
    // One whose number was given to somebody else, and one that a daemon will find.
    let (mut other, place) = shim(&machine.state(), JobId::new(), &marker);
    let about = fs::read_to_string(place.join("shim.json")).unwrap();
    let mut about: Value = serde_json::from_str(&about).unwrap();
    about["shim"]["start_time"] = 7.into();
    fs::write(place.join("shim.json"), about.to_string()).unwrap();
    let mut caller = job(&machine, &format!("{marker}-job"));
    let open = fs::read_dir(machine.state().join("journal/open")).unwrap().next().unwrap().unwrap();
    let id: JobId = open.file_name().to_str().unwrap().parse().unwrap();
    let (mut found_by_it, _) = shim(&machine.state(), id, &marker);
    let orphans = found(&machine, &["--yes"]);
    let mut kinds: Vec<&str> = orphans.iter().map(|orphan| orphan["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["shim", "unproved"], "{orphans:?}");
    lost.wait(SOON);
    assert!(other.ended().is_none() && found_by_it.ended().is_none() && caller.ended().is_none());
    let shown = clean(&machine, &["--yes"]).expect_success();
    assert!(shown.out().contains("left alone: a lock of a job is held by another process"), "{shown:?}");
    for live in [&mut other, &mut found_by_it, &mut caller] {
        live.kill();
    }
}

/// A durable job needs no daemon; it is forgotten only where its shim died, too.
#[test]
fn a_durable_job_without_a_daemon_goes_on() {
    for way in WAYS {
        let machine = Machine::new();
        started(&machine, way);
        let marker = procs::marker();
        let line = format!("sh -c 'while :; do sleep 1; done' {marker} & wait");
        let job = machine.d(["exec", "-d", "w1", "-C", "/", "--sh", &line]).run().expect_success().out();
        let runs = wait_for(&marker);
        machine.d(["daemon", "stop"]).run().expect_success();
        let cleaned = clean(&machine, &["--yes"]).expect_success();
        assert!(cleaned.out().starts_with("nothing was left running"), "{way}: {cleaned:?}");
        assert!(is_there(&runs), "{way}: it goes on");
        let about = machine.file(&format!("jobs/{}/shim.json", job.trim())).unwrap();
        let shim = i32::try_from(about["shim"]["pid"].as_i64().unwrap()).unwrap();
        kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
        eventually(SOON, "its end", || procs::look_at(shim).is_none().then_some(()));
        // A reaper sees to it by itself, without one nobody does.
        if about["job_scope"]["cgroup"].is_object() {
            let orphans = found(&machine, &["--yes"]);
            assert_eq!((orphans.len(), &orphans[0]["kind"]), (1, &"rest".into()), "{orphans:?}");
            assert!(orphans[0]["why"].as_str().unwrap().contains("its shim died"), "{orphans:?}");
            assert!(orphans[0]["stopped"].as_u64().unwrap() >= 1);
        }
        procs::wait_until_gone(&marker, SOON);
        started(&machine, way);
        let over = machine.d(["wait", &format!("w1/{}", job.trim())]).run().expect_code(251);
        assert!(over.err().contains("its shim died"), "{over:?}");
    }
}
