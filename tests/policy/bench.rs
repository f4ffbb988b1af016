//! A worker with a policy, and short ways to ask it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::harness::child::Finished;
use crate::harness::fleet::{DaemonOptions, Fleet};

/// Long enough for anything on a busy machine; reached only by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A rule that lets everybody run these words, and what else it says.
pub(crate) fn rule(keys: &str) -> String {
    format!("[[allow]]\nwho = [\"@network\"]\n{keys}\n")
}

/// One worker, `w1`, with this policy beside its configuration. `PLACE` in it is the fleet's directory.
#[track_caller]
pub(crate) fn ruled(policy: &str) -> Fleet {
    ruled_with(policy, DaemonOptions::worker("w1"))
}

/// The same, of another kind.
#[track_caller]
pub(crate) fn ruled_with(policy: &str, worker: DaemonOptions) -> Fleet {
    let fleet = Fleet::builder().start();
    write_policy(&fleet, policy);
    fleet.add(worker);
    fleet
}

/// Where the policy of the first daemon is.
pub(crate) fn policy_file(fleet: &Fleet) -> PathBuf {
    fleet.path().join("daemon-0/policy.toml")
}

/// Writes the policy of the first daemon, which need not be there yet.
pub(crate) fn write_policy(fleet: &Fleet, policy: &str) {
    fleet.directory("daemon-0");
    fs::write(policy_file(fleet), policy.replace("PLACE", &fleet.path().to_string_lossy())).unwrap();
    fs::set_permissions(policy_file(fleet), fs::Permissions::from_mode(0o600)).unwrap();
}

/// `d exec w1 ARGUMENTS`, which must run; what it wrote.
#[track_caller]
pub(crate) fn runs(fleet: &Fleet, arguments: &[&str]) -> String {
    fleet.d([&["exec", "w1"], arguments].concat()).expect_success().out()
}

/// `d exec w1 ARGUMENTS`, which must not run for the policy; the sentence.
#[track_caller]
pub(crate) fn refused(fleet: &Fleet, arguments: &[&str]) -> String {
    refused_for(fleet, arguments, "policy")
}

/// The same for another reason.
#[track_caller]
pub(crate) fn refused_for(fleet: &Fleet, arguments: &[&str], why: &str) -> String {
    let report = fleet.path().join("report.json");
    let flags = ["exec", "--report", report.to_str().unwrap(), "w1"];
    let finished = fleet.d([&flags, arguments].concat()).expect_code(250);
    assert_eq!(finished.out(), "");
    assert!(finished.err().starts_with("d: refused: w1: "), "{finished:?}");
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(report["ending"]["refused"]["why"], why, "{arguments:?}: {report}");
    finished.err()
}

/// `d daemon reload` on the machine of the worker.
#[track_caller]
pub(crate) fn reload(fleet: &Fleet) -> Finished {
    fleet.command_on("w1", ["daemon", "reload"]).run()
}
