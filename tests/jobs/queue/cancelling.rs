//! Taking a job back: it never runs, or the person is told that it has begun.

use crate::harness::fleet::DaemonOptions;
use crate::harness::procs;
use crate::harness::relay::Direction;
use crate::harness::wait::{eventually, never};
use crate::queue::scene::{A_WHILE, SOON, Scene};

#[test]
fn what_was_cancelled_never_runs() {
    let scene = Scene::new();
    let w1 = scene.fleet.daemon("w1");
    w1.terminate().expect_success();
    let jobs: Vec<String> = (0..3).map(|_| scene.leave()).collect();
    let done = scene.fleet.d(["queue", "cancel", &jobs[0]]).expect_success();
    assert_eq!(done.out(), format!("cancelled {}: it never runs on w1\n", jobs[0]));
    let short = &jobs[1][jobs[1].len() - 8..];
    let done = scene.fleet.d(["queue", "cancel", &format!("w1/{short}")]).expect_success();
    assert!(done.out().contains(&jobs[1]), "{}", done.out());
    let again = scene.fleet.d(["queue", "cancel", &jobs[0]]).expect_code(254);
    assert!(again.err().contains("no job") && again.err().contains("PEER/JOB"), "{}", again.err());
    assert_eq!(scene.listed().len(), 1);
    w1.restart();
    scene.have_run(&[&jobs[2]]);
    never(A_WHILE, "a cancelled job ran", || scene.ran().get(1).cloned());
    for wrong in ["abc", "no job", "w1/"] {
        let refused = scene.fleet.d(["queue", "cancel", wrong]).expect_code(2);
        assert!(refused.err().contains("is not a job"), "{}", refused.err());
    }
    scene.fleet.d(["queue", "cancel", "nobody/0123"]).expect_code(254);
}

#[test]
fn one_that_has_begun_is_left_alone_and_that_is_said() {
    let scene = Scene::new();
    let marker = procs::marker();
    let job = scene.leave_line("--queue", "w1", &format!("exec sh -c 'sleep 1000; :' {marker}"));
    procs::wait_until_running(&marker, 1, SOON);
    scene.nothing_waits();
    let whole = format!("w1/{job}");
    let refused = scene.fleet.d(["queue", "cancel", &whole]).expect_code(1);
    assert!(refused.err().contains(&format!("begun: {job} runs on w1")), "{}", refused.err());
    assert_eq!(procs::with_argument(&marker).len(), 1);
    // By the way that this names it is stopped.
    let mut raw = crate::harness::nats::Raw::connect(&scene.fleet.url());
    raw.request(&format!("exec.w1.{job}.cancel"), "", SOON);
    procs::wait_until_gone(&marker, SOON);
    eventually(SOON, "the end", || scene.result(&job)["ending"]["cancelled"].is_object().then_some(()));
    let refused = scene.fleet.d(["queue", "cancel", &whole]).expect_code(1);
    assert!(refused.err().contains("is over on w1: cancelled"), "{}", refused.err());
}

#[test]
fn one_that_nobody_has_seen_is_buried_at_its_peer() {
    let scene = Scene::new();
    let job = uuid::Uuid::now_v7().to_string();
    let done = scene.fleet.d(["queue", "cancel", &format!("w1/{job}")]).expect_success();
    assert!(done.out().contains("it never runs on w1"), "{}", done.out());
    // Whoever says it now is too late.
    let expires = jiff::Timestamp::now().as_millisecond() + 60_000;
    let request =
        serde_json::json!({ "id": job, "directory": "/", "shell_cmd": "true", "expires_ms": expires });
    let mut raw = crate::harness::nats::Raw::connect(&scene.fleet.url());
    let stored = raw.request(&format!("queue.w1.{job}"), request.to_string(), SOON).json();
    assert!(stored["seq"].is_number(), "{stored}");
    scene.nothing_waits();
    assert_eq!(scene.result(&job)["ending"]["refused"]["why"], "cancelled_before");
}

#[test]
fn one_that_was_handed_out_is_only_its_peers_to_judge() {
    let scene = Scene::new();
    let w1 = scene.fleet.daemon("w1");
    let first = scene.leave();
    scene.have_run(&[&first]);
    scene.wait_for_pull();
    w1.freeze();
    let job = scene.leave();
    eventually(SOON, "it to be handed out", || (scene.consumer()["num_ack_pending"] == 1).then_some(()));
    let unknown = scene.fleet.d(["queue", "cancel", &job]).expect_code(251);
    assert!(unknown.err().contains("out of the queue and was handed to w1"), "{}", unknown.err());
    assert_eq!(scene.messages(), 0);
    w1.thaw();
    // The peer hears of the wish before or after it has begun, and says which.
    let asked = eventually(SOON, "w1 to answer", || {
        let asked = scene.fleet.d(["queue", "cancel", &format!("w1/{job}")]);
        (asked.code() != Some(251)).then_some(asked)
    });
    match asked.code() {
        Some(0) => never(A_WHILE, "a cancelled job ran", || scene.ran().get(1).cloned()),
        Some(1) => {
            let ran = eventually(SOON, "it to run", || scene.ran().get(1).cloned());
            assert_eq!(ran, job);
        }
        _ => panic!("{asked:?}"),
    }
}

/// A server that crashed may not know any more that it has handed a job out.
#[test]
fn one_that_its_peer_has_is_taken_back_there_whatever_the_server_knows() {
    let scene = Scene::with(DaemonOptions::worker("w1").through_relay());
    let first = scene.leave();
    scene.have_run(&[&first]);
    scene.wait_for_pull();
    let w1 = scene.fleet.daemon("w1");
    w1.relay().freeze_way(Direction::ToServer);
    let job = scene.leave();
    let open = w1.state_directory().join("journal/open").join(&job);
    eventually(SOON, "it to be journalled", || open.exists().then_some(()));
    let mut raw = crate::harness::nats::Raw::connect(&scene.fleet.server().url());
    let gone = raw.request("$JS.API.CONSUMER.DELETE.QUEUE.w1", "", SOON).json();
    assert_eq!(gone["success"], true, "{gone}");
    w1.relay().heal();
    let done = scene.fleet.d(["queue", "cancel", &job]).expect_success();
    assert!(done.out().contains("it never runs on w1"), "{}", done.out());
    // The next consumer confirms whatever is older than what it has delivered.
    scene.fleet.daemon("lead").restart();
    let next = scene.leave();
    eventually(SOON, "the next one to run", || scene.ran().contains(&next).then_some(()));
    never(A_WHILE, "a cancelled job ran", || scene.ran().get(2).cloned());
    assert_eq!(scene.result(&job)["ending"]["refused"]["why"], "cancelled_before");
}
