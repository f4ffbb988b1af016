//! What goes, and what stays.

use super::*;
use crate::journal::{Entry, StartRecord};
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::{Ending, Instance};

/// A state directory with a journal.
struct Scene {
    state: tempfile::TempDir,
    journal: Journal,
}

impl Scene {
    fn new() -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(state.path()).expect("a journal");
        Self { state, journal }
    }

    /// A job with so many bytes of output.
    fn job(&self, bytes: usize) -> (JobId, Entry) {
        let id = JobId::new();
        let begun = StartRecord {
            id,
            instance: Instance::new(),
            caller: "_INBOX.x".into(),
            request: "digest".into(),
            from: None,
            principal: None,
            standing: None,
            at: "2026-11-21T10:11:12Z".into(),
            command: "true".into(),
            directory: "/".into(),
            user: None,
            job_scope: None,
            durable: true,
            tty: false,
            name: None,
            queued: false,
        };
        let entry = self.journal.begin(&begun).expect("begun");
        let log = JobDir::of(self.state.path(), id).log();
        fs::create_dir_all(&log).expect("made");
        fs::write(log.join("0"), vec![b'x'; bytes]).expect("written");
        (id, entry)
    }

    fn ended(&self, bytes: usize) -> JobId {
        let (id, entry) = self.job(bytes);
        let peer = "w1".parse().expect("an id");
        entry
            .ended(&JobResult::bare(Some(id), peer, Instance::new(), Ending::Exited { code: 0 }))
            .expect("ended");
        id
    }

    fn retain(&self, logs_total: u64, keep_for: Duration) {
        let limits = Limits { logs_total, keep_for, ..Limits::default() };
        retain(self.state.path(), &self.journal, &limits).expect("retained");
    }

    fn left(&self) -> Vec<JobId> {
        JobDir::all(self.state.path()).expect("readable").into_iter().map(|(job, _)| job).collect()
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn the_oldest_go_until_the_rest_fits() {
    let scene = Scene::new();
    // All within one second: then by their ids.
    let jobs: Vec<JobId> = (0..4).map(|_| scene.ended(100)).collect();
    scene.retain(400, LONG);
    assert_eq!(scene.left(), jobs);
    scene.retain(399, LONG);
    assert_eq!(scene.left(), jobs[1..]);
    scene.retain(120, LONG);
    assert_eq!(scene.left(), jobs[3..]);
    scene.retain(0, LONG);
    assert!(scene.left().is_empty());
    assert!(scene.journal.find(jobs[0]).expect("readable").is_some(), "its ending is still known");
}

#[test]
fn what_is_too_old_goes_and_what_runs_stays() {
    let scene = Scene::new();
    let (running, _entry) = scene.job(1_000);
    let ended = scene.ended(10);
    scene.retain(0, LONG);
    assert_eq!(scene.left(), [running], "however much it is");
    let other = scene.ended(10);
    scene.retain(u64::MAX, LONG);
    assert_eq!(scene.left(), [running, other]);
    // Its end was written to the second, so it is some time ago.
    scene.retain(u64::MAX, Duration::ZERO);
    assert_eq!(scene.left(), [running]);
    assert!(scene.journal.find(ended).expect("readable").is_some());
}

#[test]
fn what_the_journal_has_forgotten_goes_unless_a_shim_holds_it() {
    let scene = Scene::new();
    let (forgotten, held) = (JobId::new(), JobId::new());
    for job in [forgotten, held] {
        fs::create_dir_all(JobDir::of(scene.state.path(), job).log()).expect("made");
        fs::write(JobDir::of(scene.state.path(), job).log().join("0"), "x").expect("written");
    }
    let lock = File::create(JobDir::of(scene.state.path(), held).directory().join("lock")).expect("made");
    lock.lock().expect("locked");
    scene.retain(0, LONG);
    assert_eq!(scene.left(), [held]);
    drop(lock);
    scene.retain(0, LONG);
    assert!(scene.left().is_empty());
}

#[test]
fn what_a_crash_left_half_removed_is_removed() {
    let scene = Scene::new();
    let job = scene.ended(10);
    let half = scene.state.path().join(format!("jobs/{}.{GOING}", JobId::new()));
    fs::create_dir_all(half.join("log")).expect("made");
    scene.retain(u64::MAX, LONG);
    assert!(!half.exists());
    assert_eq!(scene.left(), [job]);
}
