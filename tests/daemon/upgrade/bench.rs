//! A machine whose daemon is a program of the test's own, and other versions of that program.
//!
//! A version is a copy of `d` in which the bytes of its version were changed. One that fails was changed in
//! another text that it needs: it reads its settings, as `--check` wants, and fails at what comes afterwards.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::child::{Finished, Live};
use crate::harness::fleet::{DCommand, Fleet};
use crate::harness::procs;
use crate::harness::wait::eventually;

/// Long enough for anything that must happen, on a busy machine too.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The first version, whatever is installed.
const ORIGINAL: &str = "d-0.1.0";

/// A text of the program, and what to put in its place.
type Change<'a> = (&'a str, &'a str);

/// A machine with a bus. Its program is `bin/d`, its daemon `w1`.
pub(crate) struct Machine {
    pub(crate) fleet: Fleet,
    pub(crate) program: PathBuf,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let fleet = Fleet::builder().start();
        let program = fleet.directory("bin").join("d");
        let stripped = Command::new("strip")
            .arg("-o")
            .args([program.as_os_str(), OsStr::new(env!("CARGO_BIN_EXE_d"))])
            .status()
            .expect("this test needs `strip`, of the package binutils");
        assert!(stripped.success());
        fs::copy(&program, fleet.path().join(ORIGINAL)).unwrap();
        Machine { fleet, program }
    }

    /// Another version, not yet in any place.
    pub(crate) fn version(&self, number: &str) -> PathBuf {
        self.changed(number, &[])
    }

    /// One that says it would start, and then does not.
    pub(crate) fn version_that_crashes(&self, number: &str) -> PathBuf {
        // The folder of the reapers' locks; no name has a NUL in it.
        self.changed(number, &[("reapers", "reape\0s")])
    }

    /// One that says it would start, and then waits for a bus that is not there.
    pub(crate) fn version_that_hangs(&self, number: &str) -> PathBuf {
        self.changed(number, &[("NATS_URL", "NATS_URX")])
    }

    fn changed(&self, number: &str, changes: &[Change<'_>]) -> PathBuf {
        let mut bytes = fs::read(self.original()).unwrap();
        let version = named(number);
        for (from, to) in changes.iter().copied().chain([(peerbus::VERSION, version.as_str())]) {
            assert_eq!(from.len(), to.len(), "nothing else may move");
            assert!(replace(&mut bytes, from.as_bytes(), to.as_bytes()) > 0, "{from} is in the program");
        }
        let path = self.fleet.path().join(format!("d-{number}"));
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Puts another program in the place of the daemon's, as a package manager does.
    pub(crate) fn replace_program(&self, by: &Path) {
        let beside = self.program.with_extension("new");
        fs::copy(by, &beside).unwrap();
        fs::rename(beside, &self.program).unwrap();
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.fleet.path().join("state-w1")
    }

    /// `d` on this machine, of the version that is installed.
    pub(crate) fn d<I: IntoIterator<Item: AsRef<OsStr>>>(&self, words: I) -> DCommand {
        let command =
            self.fleet.command([""]).env("PEERBUS_STATE_DIR", self.state()).env("PEERBUS_PEER_ID", "w1");
        command.instead(self.program.to_str().unwrap()).with(|d| _ = d.args(words))
    }

    /// Starts the daemon detached; says its process.
    #[track_caller]
    pub(crate) fn started(&self) -> i32 {
        let finished = self.d(["daemon", "start"]).run().expect_success();
        let text = finished.out();
        let pid = text.split_whitespace().find_map(|word| word.strip_prefix("pid=")?.parse().ok());
        pid.unwrap_or_else(|| panic!("no pid: {finished:?}"))
    }

    /// Starts the daemon in the foreground.
    #[track_caller]
    pub(crate) fn in_the_foreground(&self) -> Live {
        let mut live = self.d(["daemon", "run"]).spawn();
        live.stderr_line(SOON, |line| line.starts_with("ready "));
        live
    }

    pub(crate) fn upgrade(&self, to: &Path, more: &[&str]) -> DCommand {
        let words = ["daemon", "upgrade", "--from", to.to_str().unwrap()];
        self.d([&words[..], more].concat()).deadline(Duration::from_secs(120))
    }

    /// What `d daemon status` says.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let finished = self.d(["daemon", "status", "--json"]).run();
        serde_json::from_str(&finished.out()).unwrap_or_else(|_| panic!("{finished:?}"))
    }

    /// Waits until a daemon of this version is ready; says its status.
    #[track_caller]
    pub(crate) fn serves(&self, number: &str) -> Value {
        let version = named(number);
        eventually(SOON, &format!("{version} to serve"), || {
            let state = self.file("state.json")?;
            (state["state"] == "ready" && state["version"] == version.as_str()).then_some(())
        });
        let status = self.status();
        assert_eq!((&status["version"], &status["ready"]), (&version.into(), &true.into()));
        self.d(["exec", "w1", "-C", "/", "--", "true"]).run().expect_success();
        status
    }

    /// A file of the state directory.
    pub(crate) fn file(&self, name: &str) -> Option<Value> {
        serde_json::from_str(&fs::read_to_string(self.state().join(name)).ok()?).ok()
    }

    /// Waits until the last upgrade has come so far.
    #[track_caller]
    pub(crate) fn phase(&self, wanted: &str) -> Value {
        eventually(SOON, &format!("the upgrade to be {wanted}"), || {
            self.file("upgrade.json").filter(|attempt| attempt["phase"] == wanted)
        })
    }

    /// Fails the test unless the program is this one, and nothing else of an upgrade lies beside it.
    #[track_caller]
    pub(crate) fn program_is(&self, wanted: &Path) {
        assert!(
            fs::read(&self.program).unwrap() == fs::read(wanted).unwrap(),
            "another program is installed"
        );
        let left: Vec<String> = self.beside().into_iter().filter(|name| name.starts_with('.')).collect();
        assert_eq!(left, Vec::<String>::new(), "nothing half-done is left");
    }

    /// What lies where the program does.
    pub(crate) fn beside(&self) -> Vec<String> {
        let entries = fs::read_dir(self.program.parent().unwrap()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The first version.
    pub(crate) fn original(&self) -> PathBuf {
        self.fleet.path().join(ORIGINAL)
    }

    pub(crate) fn inode(&self) -> u64 {
        fs::metadata(&self.program).unwrap().ino()
    }

    /// A job that runs until the file is there.
    #[track_caller]
    pub(crate) fn job_until(&self, file: &Path) -> Live {
        let line = format!("echo begun; while ! [ -e '{}' ]; do sleep 0.1; done; echo ended", file.display());
        let mut live = self.d(["exec", "w1", "-C", "/", "--sh", &line]).spawn();
        live.stdout_line(SOON, |line| line == "begun");
        live
    }

    /// Waits for a line of the detached daemon's log.
    #[track_caller]
    pub(crate) fn logs(&self, words: &str) {
        eventually(SOON, &format!("{words:?} in the log"), || {
            fs::read_to_string(self.state().join("daemon.log"))
                .ok()
                .filter(|text| text.contains(words))
                .map(drop)
        });
    }

    /// The guards that watch over an upgrade of this machine's daemon.
    pub(crate) fn guards(&self) -> Vec<procs::Process> {
        let state = self.state().display().to_string();
        let is_guard = |process: &procs::Process| {
            process.arguments.iter().any(|word| word == "guard") && process.arguments.contains(&state)
        };
        procs::touching(&self.state()).into_iter().filter(is_guard).collect()
    }
}

/// The whole version, of the length of this one.
pub(crate) fn named(number: &str) -> String {
    let (first, rest) = peerbus::VERSION.split_at(5);
    assert_eq!((number.len(), first), (5, "0.1.0"), "versions of one length");
    format!("{number}{rest}")
}

/// Fails the test unless stderr has a line of `d` with all these words.
#[track_caller]
pub(crate) fn says(finished: &Finished, words: &[&str]) {
    let text = finished.err();
    let fits = |line: &str| line.starts_with("d: ") && words.iter().all(|word| line.contains(word));
    assert!(text.lines().any(fits), "{words:?}: {finished:?}");
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) -> usize {
    let mut count = 0;
    let mut at = 0;
    while at + from.len() <= bytes.len() {
        if bytes[at] == from[0] && &bytes[at..at + from.len()] == from {
            bytes[at..at + from.len()].copy_from_slice(to);
            count += 1;
            at += from.len();
        } else {
            at += 1;
        }
    }
    count
}
