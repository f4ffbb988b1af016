//! Killed between any two steps, frozen, cut off: a job runs at most once, and where it surely has not run,
//! it runs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::fleet::{Daemon, DaemonOptions, TERMINATE_DEADLINE};
use crate::harness::relay::Direction;
use crate::harness::wait::{eventually, never};
use crate::queue::scene::{A_WHILE, SOON, Scene};

/// Longer than a delivery may take to be confirmed.
const CONFIRM: Duration = Duration::from_secs(32);

fn far() -> Scene {
    let scene = Scene::with(DaemonOptions::worker("w1").through_relay());
    let first = scene.leave();
    scene.have_run(&[&first]);
    fs::remove_file(scene.fleet.path().join("ran")).unwrap();
    scene.wait_for_pull();
    scene
}

fn record(w1: &Daemon, folder: &str, job: &str) -> PathBuf {
    w1.state_directory().join("journal").join(folder).join(job)
}

#[track_caller]
fn ended_well(scene: &Scene, job: &str) {
    let is_over = || scene.result(job)["ending"]["exited"]["code"].as_i64();
    assert_eq!(eventually(SOON, "the end", is_over), 0);
    let copies = scene.fleet.daemon("w1").state_directory().join("journal/queued");
    assert_eq!(fs::read_dir(copies).unwrap().count(), 0, "copies are kept no longer than they are needed");
}

#[test]
fn killed_after_the_journal_and_before_the_server_has_heard() {
    let scene = far();
    let w1 = scene.fleet.daemon("w1");
    w1.relay().freeze_way(Direction::ToServer);
    let job = scene.leave();
    eventually(SOON, "it to be journalled", || record(&w1, "open", &job).exists().then_some(()));
    never(A_WHILE, "it ran unconfirmed", || scene.ran().pop());
    assert_eq!(scene.messages(), 1);
    w1.kill9();
    w1.relay().heal();
    w1.restart();
    scene.have_run(&[&job]);
    ended_well(&scene, &job);
}

#[test]
fn killed_after_the_server_has_let_go_and_before_the_start() {
    let scene = far();
    let w1 = scene.fleet.daemon("w1");
    // What the daemon says takes a while, so that the server's answer to it can be stopped.
    w1.relay().delay_way(Direction::ToServer, Duration::from_secs(5));
    let job = scene.leave();
    eventually(SOON, "it to be journalled", || record(&w1, "open", &job).exists().then_some(()));
    w1.relay().freeze_way(Direction::ToClient);
    scene.nothing_waits();
    assert!(scene.ran().is_empty(), "it ran unconfirmed");
    w1.kill9();
    w1.relay().delay_way(Direction::ToServer, Duration::ZERO);
    w1.relay().heal();
    w1.restart();
    scene.have_run(&[&job]);
    ended_well(&scene, &job);
}

#[test]
fn stopped_while_it_waits_for_the_server() {
    // On a busy machine it may be stopped before it has come to waiting.
    assert!((0..3).any(|_| stopped_while_waiting()), "what waited was never put back");
}

/// Whether it had begun to wait: then its record is open no more.
fn stopped_while_waiting() -> bool {
    let scene = far();
    let w1 = scene.fleet.daemon("w1");
    w1.relay().freeze_way(Direction::ToServer);
    let job = scene.leave();
    eventually(SOON, "it to be journalled", || record(&w1, "open", &job).exists().then_some(()));
    w1.terminate().expect_success();
    let is_put_back = !record(&w1, "open", &job).exists();
    assert!(record(&w1, "queued", &job).exists() && !record(&w1, "ended", &job).exists());
    w1.relay().heal();
    w1.restart();
    scene.have_run(&[&job]);
    ended_well(&scene, &job);
    is_put_back
}

#[test]
fn cut_off_while_it_waits_for_the_server() {
    let scene = far();
    let w1 = scene.fleet.daemon("w1");
    w1.relay().freeze_way(Direction::ToServer);
    let job = scene.leave();
    eventually(SOON, "it to be journalled", || record(&w1, "open", &job).exists().then_some(()));
    w1.relay().cut();
    w1.relay().heal();
    scene.have_run(&[&job]);
    ended_well(&scene, &job);
}

#[test]
fn a_server_that_forgot_the_delivery_delivers_again() {
    let scene = far();
    let w1 = scene.fleet.daemon("w1");
    w1.relay().freeze_way(Direction::ToServer);
    let job = scene.leave();
    eventually(SOON, "it to be journalled", || record(&w1, "open", &job).exists().then_some(()));
    // Another server with the same stream and no consumer, which the leader makes again.
    let mut raw = crate::harness::nats::Raw::connect(&scene.fleet.server().url());
    let gone = raw.request("$JS.API.CONSUMER.DELETE.QUEUE.w1", "", SOON).json();
    assert_eq!(gone["success"], true, "{gone}");
    scene.fleet.server().restart();
    w1.relay().heal();
    scene.have_run(&[&job]);
    ended_well(&scene, &job);
}

#[test]
fn killed_before_the_journal_could_be_written() {
    let scene = Scene::new();
    let w1 = scene.fleet.daemon("w1");
    let copies = w1.state_directory().join("journal/queued");
    fs::remove_dir(&copies).unwrap();
    fs::write(&copies, "no directory").unwrap();
    let job = scene.leave();
    w1.wait_for_line(SOON, |line| line.contains("the journal cannot be written") && line.contains(&job));
    assert_eq!((scene.messages(), scene.ran().len()), (1, 0));
    w1.kill9();
    fs::remove_file(&copies).unwrap();
    w1.restart();
    scene.have_run(&[&job]);
    ended_well(&scene, &job);
}

#[test]
fn a_disk_that_comes_back_lets_it_run_without_a_restart() {
    let scene = Scene::new();
    let w1 = scene.fleet.daemon("w1");
    let copies = w1.state_directory().join("journal/queued");
    fs::remove_dir(&copies).unwrap();
    fs::write(&copies, "no directory").unwrap();
    let job = scene.leave();
    w1.wait_for_line(SOON, |line| line.contains("the journal cannot be written") && line.contains(&job));
    fs::remove_file(&copies).unwrap();
    fs::create_dir(&copies).unwrap();
    scene.have_run(&[&job]);
    ended_well(&scene, &job);
}

#[test]
fn killed_when_it_was_about_to_start() {
    let scene = Scene::new();
    let w1 = scene.fleet.daemon("w1");
    w1.terminate().expect_success();
    let job = scene.leave();
    // What a daemon leaves that was killed between that step and the next.
    let begun = json!({
        "step": "begun", "id": job, "instance": uuid::Uuid::new_v4().to_string(), "caller": "_INBOX.queued",
        "request": "d1935", "at": "2026-11-21T10:11:12Z", "command": "true", "directory": "/", "user": null,
        "job_scope": null, "queued": true,
    });
    let starting = json!({ "step": "starting", "at": "2026-11-21T10:11:12Z" });
    fs::write(record(&w1, "open", &job), format!("{begun}\n{starting}\n")).unwrap();
    w1.restart();
    scene.nothing_waits();
    let ending = scene.result(&job)["ending"].clone();
    assert!(ending["unknown"]["why"].as_str().unwrap().contains("it may have run"), "{ending}");
    never(A_WHILE, "what may have run ran again", || scene.ran().pop());
}

#[test]
fn killed_after_it_had_said_that_it_starts_and_before_there_was_a_shim() {
    let scene = far();
    let w1 = scene.fleet.daemon("w1");
    w1.relay().freeze_way(Direction::ToServer);
    let job = scene.leave();
    eventually(SOON, "it to be journalled", || record(&w1, "open", &job).exists().then_some(()));
    w1.kill9();
    w1.relay().heal();
    // The next step, which that daemon did not come to, nor to the one after it.
    let path = record(&w1, "open", &job);
    let text = fs::read_to_string(&path).unwrap();
    let starting = json!({ "step": "starting", "at": "2026-11-21T10:11:12Z" });
    fs::write(&path, format!("{}\n{starting}\n", text.trim_end())).unwrap();
    w1.restart();
    scene.have_run(&[&job]);
    ended_well(&scene, &job);
}

#[test]
fn killed_while_it_runs_it_goes_on_and_is_not_begun_again() {
    let scene = Scene::new();
    let w1 = scene.fleet.daemon("w1");
    let gate = scene.fleet.path().join("gate");
    let job =
        scene.leave_line("--queue", "w1", &format!("until [ -e '{}' ]; do sleep 0.05; done", gate.display()));
    scene.have_run(&[&job]);
    w1.kill9();
    w1.restart();
    fs::write(&gate, "").unwrap();
    ended_well(&scene, &job);
    assert_eq!(scene.ran(), [job]);
}

#[test]
fn a_machine_that_sleeps_wakes_up_to_one_run() {
    let scene = far();
    let w1 = scene.fleet.daemon("w1");
    w1.freeze();
    let job = scene.leave();
    eventually(SOON, "it to be delivered", || (scene.consumer()["num_ack_pending"] == 1).then_some(()));
    never(CONFIRM, "it ran in its sleep", || scene.ran().pop());
    w1.thaw();
    scene.have_run(&[&job]);
    ended_well(&scene, &job);
    never(A_WHILE, "it ran again", || scene.ran().get(1).cloned());
}

#[test]
fn one_that_expires_on_its_last_step_does_not_run() {
    let scene = far();
    let w1 = scene.fleet.daemon("w1");
    w1.relay().freeze_way(Direction::ToServer);
    let job = scene.leave_line("--queue=5s", "w1", "true");
    // Before that it is journalled as open, on a busy machine for a moment only.
    eventually(SOON, "it to be refused", || record(&w1, "ended", &job).exists().then_some(()));
    w1.relay().heal();
    scene.nothing_waits();
    let refused = eventually(SOON, "the peer to answer", || {
        scene.result(&job)["ending"]["refused"]["why"].as_str().map(str::to_owned)
    });
    assert_eq!(refused, "expired");
    assert!(scene.ran().is_empty());
}

/// Who asks in the middle is not left without an answer.
#[test]
fn what_is_asked_while_it_waits_for_the_server_is_answered_then() {
    let scene = far();
    let w1 = scene.fleet.daemon("w1");
    w1.relay().freeze_way(Direction::ToServer);
    let job = scene.leave();
    eventually(SOON, "it to be journalled", || record(&w1, "open", &job).exists().then_some(()));
    let mut raw = crate::harness::nats::Raw::connect(&scene.fleet.server().url());
    let inbox = raw.new_inbox();
    let answers = raw.subscribe(&inbox);
    let before = w1.relay().passed(Direction::ToClient);
    raw.publish_reply(&format!("exec.w1.{job}.result"), &inbox, "");
    raw.barrier();
    w1.relay().wait_until_passed(Direction::ToClient, before + 1, SOON);
    w1.relay().heal();
    let answer = raw.expect_on(answers, SOON, "an answer");
    assert_eq!(answer.header("Nats-Service-Error"), Some("running"), "{answer:?}");
    scene.have_run(&[&job]);
    ended_well(&scene, &job);
}

/// Many come up at once and wait for their turn to be started: what has not had it, has it with the next daemon.
#[test]
fn stopped_before_all_of_many_have_had_their_turn() {
    // On a busy machine all of them may have had it before the daemon hears that it is to stop.
    assert!((0..3).any(|_| stopped_in_the_middle_of_many()), "it was never stopped in the middle");
}

/// Whether it was stopped in the middle.
fn stopped_in_the_middle_of_many() -> bool {
    let scene = Scene::new();
    let w1 = scene.fleet.daemon("w1");
    w1.terminate().expect_success();
    let jobs: Vec<String> = (0..60).map(|_| scene.leave()).collect();
    w1.restart();
    eventually(SOON, "the first to run", || scene.ran().pop());
    w1.signal(Signal::SIGTERM);
    w1.wait_for_end(TERMINATE_DEADLINE).expect_success();
    let in_the_middle = scene.ran().len() < jobs.len();
    // What the server still has comes again by itself, later.
    let waiting: Vec<Value> = scene.listed().iter().map(|row| row["id"].clone()).collect();
    let taken: Vec<&String> = jobs.iter().filter(|job| !waiting.contains(&job.as_str().into())).collect();
    w1.restart();
    let ended = |job: &&String| scene.result(job)["ending"]["exited"]["code"] == 0;
    eventually(SOON, "all that were taken to have ended", || taken.iter().all(ended).then_some(()));
    let mut ran = scene.ran();
    ran.sort_unstable();
    assert!(ran.windows(2).all(|two| two[0] != two[1]), "{ran:?}");
    in_the_middle
}
