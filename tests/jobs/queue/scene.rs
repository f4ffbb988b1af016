//! A fleet whose server has JetStream, and a file in which every run of a job leaves its id.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::harness::fleet::{DaemonOptions, Fleet, FleetBuilder};
use crate::harness::nats::Raw;
use crate::harness::server::ServerOptions;
use crate::harness::wait::eventually;

/// How long anything may take.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Longer than a job takes that is already on its way.
pub(crate) const A_WHILE: Duration = Duration::from_secs(3);

/// Waits until the registry says this of w1.
#[track_caller]
pub(crate) fn wait_until(fleet: &Fleet, state: &str) {
    eventually(SOON, &format!("w1 to be {state}"), || {
        let listed = fleet.d(["peers", "--json"]);
        let line = format!(r#""state":"{state}""#);
        listed.out().lines().any(|row| row.contains(r#""peer_id":"w1""#) && row.contains(&line)).then_some(())
    });
}

pub(crate) struct Scene {
    pub(crate) fleet: Fleet,
}

impl Scene {
    /// A leader and the worker w1.
    #[track_caller]
    pub(crate) fn new() -> Scene {
        Scene::with(DaemonOptions::worker("w1"))
    }

    #[track_caller]
    pub(crate) fn with(w1: DaemonOptions) -> Scene {
        Scene::of(Fleet::builder().daemon(w1))
    }

    #[track_caller]
    pub(crate) fn of(fleet: FleetBuilder) -> Scene {
        let fleet = fleet.server(ServerOptions::new().jetstream()).leader("lead").start();
        let scene = Scene { fleet };
        scene.wait_until("online");
        scene.wait_for_queue();
        scene
    }

    /// Waits until the registry says this of w1.
    #[track_caller]
    pub(crate) fn wait_until(&self, state: &str) {
        wait_until(&self.fleet, state);
    }

    /// Waits until the leader has made the stream, which is a task of its own.
    #[track_caller]
    pub(crate) fn wait_for_queue(&self) {
        let mut raw = Raw::connect(&self.fleet.server().url());
        eventually(SOON, "the queue to be made", || {
            let answer = raw.request("$JS.API.STREAM.INFO.QUEUE", "", SOON);
            // The server may not answer such questions yet.
            let info: Value = serde_json::from_slice(&answer.payload).ok()?;
            info["config"].is_object().then_some(())
        });
    }

    fn mark(&self) -> PathBuf {
        self.fleet.path().join("ran")
    }

    /// Leaves a job that notes its run and does this; returns its id.
    #[track_caller]
    pub(crate) fn leave_line(&self, flag: &str, peer: &str, line: &str) -> String {
        let line = format!("echo $PEERBUS_JOB >> '{}'; {line}", self.mark().display());
        let done = self.fleet.d(["exec", flag, peer, "-C", "/", "--sh", &line]).expect_success();
        let id = done.out();
        assert!(done.err().contains("queued: "), "{}", done.err());
        id.strip_suffix('\n').expect("one line").to_owned()
    }

    /// Leaves a job for w1 that notes its run.
    #[track_caller]
    pub(crate) fn leave(&self) -> String {
        self.leave_line("--queue", "w1", "true")
    }

    /// The ids of the jobs that have run, in order.
    pub(crate) fn ran(&self) -> Vec<String> {
        let text = fs::read_to_string(self.mark()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until these have run, these alone, and each once.
    #[track_caller]
    pub(crate) fn have_run(&self, jobs: &[&str]) {
        eventually(SOON, "the jobs to run", || (self.ran().len() >= jobs.len()).then_some(()));
        self.nothing_waits();
        let mut ran = self.ran();
        ran.sort_unstable();
        let mut wanted = jobs.to_vec();
        wanted.sort_unstable();
        assert_eq!(ran, wanted);
    }

    /// Waits until the queue is empty.
    #[track_caller]
    pub(crate) fn nothing_waits(&self) {
        eventually(SOON, "the queue to be empty", || (self.messages() == 0).then_some(()));
    }

    /// Messages in the stream.
    pub(crate) fn messages(&self) -> u64 {
        let mut raw = Raw::connect(&self.fleet.server().url());
        let info = raw.request("$JS.API.STREAM.INFO.QUEUE", "", SOON).json();
        info["state"]["messages"].as_u64().unwrap_or_else(|| panic!("{info}"))
    }

    /// What the server knows of w1's consumer.
    pub(crate) fn consumer(&self) -> Value {
        Raw::connect(&self.fleet.server().url()).request("$JS.API.CONSUMER.INFO.QUEUE.w1", "", SOON).json()
    }

    /// What `d queue list` shows.
    #[track_caller]
    pub(crate) fn listed(&self) -> Vec<Value> {
        let listed = self.fleet.d(["queue", "list", "--json"]).expect_success().out();
        listed.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// What w1 says of a job: its result, or an error.
    #[track_caller]
    pub(crate) fn result(&self, job: &str) -> Value {
        let mut raw = Raw::connect(&self.fleet.server().url());
        raw.request(&format!("exec.w1.{job}.result"), "", SOON).json()
    }

    /// Waits until the leader has seen that something waits for w1.
    #[track_caller]
    pub(crate) fn wait_for_consumer(&self) {
        eventually(SOON, "the consumer of w1", || self.consumer()["name"].is_string().then_some(()));
    }

    /// Waits until w1 has asked its consumer for what waits.
    #[track_caller]
    pub(crate) fn wait_for_pull(&self) {
        eventually(SOON, "w1 to wait at its queue", || {
            (self.consumer()["num_waiting"].as_u64()? > 0).then_some(())
        });
    }
}
