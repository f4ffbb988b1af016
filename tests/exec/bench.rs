//! Short ways to run something in a fleet, and to look at what came back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::child::{Finished, Live};
use crate::harness::fleet::{DCommand, DaemonOptions, Fleet};
use crate::harness::procs;
use crate::harness::wait::{eventually, within};

/// Long enough for anything on a busy machine; reached only by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The same where much is carried.
pub(crate) const MUCH_PATIENCE: Duration = Duration::from_secs(300);

/// One worker, `w1`.
#[track_caller]
pub(crate) fn fleet() -> Fleet {
    Fleet::of_workers(["w1"])
}

/// One worker, `w1`, that keeps its jobs together this way.
#[track_caller]
pub(crate) fn contained(containment: &str) -> Fleet {
    Fleet::builder().daemon(DaemonOptions::worker("w1").env("PEERBUS_CONTAINMENT", containment)).start()
}

/// Makes two tests of a case, one for each way of keeping a job together.
macro_rules! both {
    ($($case:ident)*) => {
        mod best { $(
            #[test]
            fn $case() {
                super::$case(&crate::bench::contained("best"));
            }
        )* }
        mod reaper { $(
            #[test]
            fn $case() {
                super::$case(&crate::bench::contained("reaper"));
            }
        )* }
    };
}
pub(crate) use both;

/// `d exec w1 -C PLACE FLAGS --sh LINE`, in the fleet's own place, where whatever a failed test
/// leaves running is found.
pub(crate) fn sh_with(fleet: &Fleet, flags: &[&str], line: &str) -> DCommand {
    let place = fleet.path().to_string_lossy();
    fleet.command([&["exec", "w1", "-C", &place], flags, &["--sh", line]].concat())
}

/// The same without flags.
pub(crate) fn sh(fleet: &Fleet, line: &str) -> DCommand {
    sh_with(fleet, &[], line)
}

/// `d exec w1 -C PLACE -- ARGV`, in the same place.
pub(crate) fn argv(fleet: &Fleet, argv: &[&str]) -> DCommand {
    let place = fleet.path().to_string_lossy();
    fleet.command([&["exec", "w1", "-C", &place, "--"], argv].concat())
}

/// Runs `d` with `--report` and returns what it left in both ways.
#[track_caller]
pub(crate) fn reported(fleet: &Fleet, arguments: &[&str]) -> (Finished, Value) {
    let report = Report::new(fleet);
    let flag = report.0.to_string_lossy().into_owned();
    let (verb, rest) = arguments.split_first().expect("a verb");
    let finished = fleet.d([&[verb, "--report", &flag], rest].concat());
    (finished, report.read())
}

/// The file of a `--report`.
pub(crate) struct Report(PathBuf);

impl Report {
    pub(crate) fn new(fleet: &Fleet) -> Report {
        Report(fleet.path().join(format!("{}.json", procs::marker())))
    }

    pub(crate) fn path(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }

    #[track_caller]
    pub(crate) fn read(&self) -> Value {
        let text = std::fs::read(&self.0).expect("a report");
        assert!(text.ends_with(b"\n"), "a report is a line");
        serde_json::from_slice(&text).expect("a report is JSON")
    }
}

/// Checks a failure of `d`'s own: its code, an empty stdout, and nothing but `d`'s own lines on
/// stderr, of which the first begins with `d: START`. Returns stderr.
#[track_caller]
pub(crate) fn own_failure(finished: Finished, code: i32, start: &str) -> String {
    let finished = finished.expect_code(code);
    assert!(finished.stdout.is_empty(), "{finished:?}");
    let said = finished.err();
    assert!(said.starts_with(&format!("d: {start}")), "{finished:?}");
    assert!(said.ends_with('\n') && said.lines().all(|line| line.starts_with("d: ")), "{finished:?}");
    said
}

/// The parts of a report that are the same for every ending.
#[track_caller]
pub(crate) fn check_report(report: &Value, peer: &str, code: i32) {
    let keys: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = [
        "asked",
        "ending",
        "exit_code",
        "id",
        "input_lost",
        "output_failed",
        "output_lost",
        "peer_id",
        "result",
        "type",
    ];
    assert_eq!(keys, wanted);
    assert_eq!(report["type"], "peerbus.report.v1");
    assert_eq!(report["asked"], peer);
    assert_eq!(report["exit_code"], code);
    for lost in ["input_lost", "output_failed", "output_lost"] {
        assert_eq!(report[lost], Value::Null);
    }
    assert!(report["id"].as_str().unwrap().parse::<peerbus::protocol::JobId>().is_ok(), "{report}");
}

/// Runs what must not start, and checks code, lines and report. Returns the sentence.
#[track_caller]
pub(crate) fn refused(
    fleet: &Fleet,
    arguments: &[&str],
    code: i32,
    start: &str,
    kind: &str,
    why: &str,
) -> String {
    let (finished, report) = reported(fleet, arguments);
    let said = own_failure(finished, code, start);
    check_report(&report, arguments[1], code);
    assert_eq!(report["ending"][kind]["why"], why, "{report}");
    let message = report["ending"][kind]["message"].as_str().unwrap();
    assert!(said.contains(message), "{said:?} {message:?}");
    said
}

/// `d`'s own lines: a shell may have had something to say, too.
pub(crate) fn own_lines(finished: &Finished) -> Vec<String> {
    finished.err().lines().filter(|line| line.starts_with("d: ")).map(str::to_owned).collect()
}

/// Waits until the value has stayed the same for `span`, and returns it.
#[track_caller]
pub(crate) fn settled<T: PartialEq + Copy + std::fmt::Debug>(
    span: Duration,
    what: &str,
    look: impl Fn() -> T,
) -> T {
    let mut last = (look(), Instant::now());
    let settled = within(PATIENCE, || {
        let now = look();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() >= span).then_some(now)
    });
    settled.unwrap_or_else(|| panic!("{what} did not come to rest, now {:?}", last.0))
}

/// How many bytes a process has written so far, to wherever.
pub(crate) fn bytes_written(pid: i32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    written.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The process that runs under this name (`exec -a NAME`).
#[track_caller]
pub(crate) fn pid_of(name: &str) -> i32 {
    let named = |process: &procs::Process| process.arguments.first().is_some_and(|first| first == name);
    eventually(PATIENCE, &format!("a process named {name}"), || {
        procs::with_argument(name).into_iter().find(named).map(|process| process.pid)
    })
}

/// Waits for a line of the command, whose whole text this is.
#[track_caller]
pub(crate) fn says(live: &mut Live, line: &str) {
    live.stdout_line(PATIENCE, |said| said == line);
}
