//! A machine with a bus and, perhaps, a daemon.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::harness::child::Finished;
use crate::harness::fleet::{DCommand, Fleet};
use crate::harness::procs;
use crate::harness::wait::eventually;

/// Long enough for anything that must happen, on a busy machine too.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A machine whose daemon is `w1`, and the bus. What still runs at the end is killed.
pub(crate) struct Machine {
    pub(crate) fleet: Fleet,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        Machine { fleet: Fleet::builder().start() }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.fleet.path().join("state-w1")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.state().join("daemon.log")
    }

    /// `d` on this machine.
    pub(crate) fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> DCommand {
        self.fleet.command(arguments).env("PEERBUS_STATE_DIR", self.state()).env("PEERBUS_PEER_ID", "w1")
    }

    pub(crate) fn start(&self) -> DCommand {
        self.command(["daemon", "start"])
    }

    pub(crate) fn stop(&self) -> DCommand {
        self.command(["daemon", "stop"])
    }

    /// Starts the daemon; says its process.
    #[track_caller]
    pub(crate) fn started(&self) -> i32 {
        pid_in(&self.start().run().expect_success())
    }

    /// What `d daemon status` says, with this code.
    #[track_caller]
    pub(crate) fn status(&self, code: i32) -> Value {
        let finished = self.command(["daemon", "status", "--json"]).run().expect_code(code);
        serde_json::from_str(&finished.out()).unwrap()
    }

    /// Fails the test unless no process has to do with the state directory.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        let state = self.state();
        eventually(SOON, "everything to be gone", || {
            let of_daemon = |process: &procs::Process| {
                process.arguments.iter().any(|argument| argument.contains(&*state.to_string_lossy()))
            };
            let left = procs::touching(&state).into_iter().any(|process| of_daemon(&process));
            (!left).then_some(())
        });
        assert_eq!(self.status(3)["running"], false);
    }

    /// Waits until a daemon that comes up has written who it is.
    #[track_caller]
    pub(crate) fn starting(&self) -> i32 {
        eventually(SOON, "a daemon that starts", || {
            let text = fs::read_to_string(self.state().join("state.json")).ok()?;
            let state: Value = serde_json::from_str(&text).ok()?;
            let pid = i32::try_from(state["process"]["pid"].as_i64()?).ok()?;
            (state["state"] == "starting" && procs::look_at(pid).is_some()).then_some(pid)
        })
    }

    /// Starts a job that does not end by itself; its processes carry the marker.
    pub(crate) fn job(&self, marker: &str) -> crate::harness::child::Live {
        let line = format!("echo begun; sh -c 'while :; do sleep 1; done' {marker} & wait");
        let mut live = self.command(["exec", "w1", "-C", "/", "--sh", &line]).spawn();
        live.stdout_line(SOON, |line| line == "begun");
        live
    }
}

/// The process that a line such as `started peer=w1 pid=7 …` names.
#[track_caller]
pub(crate) fn pid_in(finished: &Finished) -> i32 {
    let text = finished.out();
    let pid = text.split_whitespace().find_map(|word| word.strip_prefix("pid=")?.parse().ok());
    pid.unwrap_or_else(|| panic!("no pid: {finished:?}"))
}

/// Fails the test unless stderr has a line of `d` with all these words.
#[track_caller]
pub(crate) fn says(finished: &Finished, words: &[&str]) {
    let text = finished.err();
    let fits = |line: &str| line.starts_with("d: ") && words.iter().all(|word| line.contains(word));
    assert!(text.lines().any(fits), "{words:?}: {finished:?}");
}
