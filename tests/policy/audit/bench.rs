//! What the cases have in common: requests, and looks at what was written of them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::child::Finished;
use crate::harness::fleet::{DCommand, Fleet};
use crate::harness::nats::{Message, Raw};

/// Long enough for anything that must happen, on a busy machine too.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) fn job_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Asks w1 to its answer, under a new id, which is returned.
#[track_caller]
pub(crate) fn ask(fleet: &Fleet, request: Value) -> (String, Message) {
    let job = job_id();
    let mut request = request;
    request["id"] = json!(job);
    let answer = Raw::connect(&fleet.url()).request("exec.w1", request.to_string(), SOON);
    (job, answer)
}

/// Runs a command that does nothing.
#[track_caller]
pub(crate) fn run_one(fleet: &Fleet) -> String {
    let (job, answer) = ask(fleet, json!({ "argv": ["true"], "directory": "/" }));
    assert_eq!(answer.json()["ending"]["exited"]["code"], 0, "{answer:?}");
    job
}

/// All lines of w1, as its daemon shows them, with `d audit w1 --json` and these arguments.
#[track_caller]
pub(crate) fn lines(fleet: &Fleet, arguments: &[&str]) -> Vec<Value> {
    let all = ["audit", "w1", "--json"].iter().chain(arguments);
    let shown = fleet.d(all).expect_success().out();
    shown.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Those about one job.
#[track_caller]
pub(crate) fn about(fleet: &Fleet, job: &str) -> Vec<Value> {
    lines(fleet, &[]).into_iter().filter(|line| line["job"] == job).collect()
}

/// The events of some lines.
pub(crate) fn events(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().expect("an event")).collect()
}

/// `d audit verify` on the machine of w1, which needs no daemon.
pub(crate) fn verify(fleet: &Fleet) -> DCommand {
    fleet.command_on("w1", ["audit", "verify"])
}

/// Fails the test unless w1's log is sound, seen from its own machine.
#[track_caller]
pub(crate) fn expect_sound(fleet: &Fleet) -> Finished {
    let said = verify(fleet).run().expect_success();
    assert!(said.out().contains(" is sound: "), "{said:?}");
    said
}

/// Fails the test unless w1's log is found broken; returns what is said of it.
#[track_caller]
pub(crate) fn expect_broken(fleet: &Fleet) -> String {
    let said = verify(fleet).run().expect_code(1);
    assert!(said.out().contains("BROKEN") && said.out().contains("is not sound"), "{said:?}");
    said.out()
}

/// The folder of w1's log.
pub(crate) fn folder(fleet: &Fleet) -> PathBuf {
    fleet.daemon("w1").state_directory().join("audit")
}

/// Its files, oldest first.
pub(crate) fn files(fleet: &Fleet) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder(fleet))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    files.sort();
    files
}
