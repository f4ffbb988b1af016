//! What does not run: expired, forgotten, garbage, forbidden. It is said, and holds up nobody.

use serde_json::{Value, json};

use crate::harness::fleet::DaemonOptions;
use crate::harness::nats::Raw;
use crate::harness::wait::{eventually, never};
use crate::queue::scene::{A_WHILE, SOON, Scene};

#[test]
fn what_has_expired_never_runs_and_is_recorded() {
    let scene = Scene::new();
    let w1 = scene.fleet.daemon("w1");
    w1.terminate().expect_success();
    let late = scene.leave_line("--queue=1s", "w1", "true");
    let good = scene.leave();
    eventually(SOON, "it to expire", || (scene.listed()[0]["expired"] == true).then_some(()));
    assert!(scene.fleet.d(["queue", "list"]).expect_success().out().contains("expired"));
    w1.restart();
    scene.have_run(&[&good]);
    let refused = &scene.result(&late)["ending"]["refused"];
    assert_eq!(refused["why"], "expired");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("expired before w1 could take it"), "{message}");
    let audited = scene.fleet.d(["audit", "w1", "--json"]).expect_success().out();
    let line = audited.lines().find(|line| line.contains(&late)).expect("it is in the audit log");
    assert!(line.contains(r#""event":"refused""#) && line.contains("expired"), "{line}");
}

#[test]
fn what_the_journal_may_have_forgotten_does_not_run() {
    let scene = Scene::new();
    let w1 = scene.fleet.daemon("w1");
    w1.terminate().expect_success();
    let job = scene.leave();
    // As if it had run here and the disk were lost since.
    std::fs::remove_dir_all(w1.state_directory()).unwrap();
    w1.restart();
    scene.nothing_waits();
    let message = eventually(SOON, "the refusal", || {
        scene.result(&job)["ending"]["refused"]["message"].as_str().map(str::to_owned)
    });
    assert!(message.contains("remembers ids since") && message.contains("may have run"), "{message}");
    let next = scene.leave();
    scene.have_run(&[&next]);
}

/// A request as somebody types it.
fn request(id: &str) -> Value {
    let expires = jiff::Timestamp::now().as_millisecond() + 60_000;
    json!({ "id": id, "directory": "/", "shell_cmd": "true", "expires_ms": expires })
}

fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[test]
fn what_is_no_request_is_taken_out_and_holds_up_nobody() {
    let scene = Scene::new();
    let mut raw = Raw::connect(&scene.fleet.url());
    let ids: Vec<String> = (0..6).map(|_| new_id()).collect();
    let with = |id: &str, key: &str, value: Value| {
        let mut request = request(id);
        request[key] = value;
        request.to_string()
    };
    let hour = 3_600_000_i64;
    let garbage = [
        ("queue.w1.garbage".to_owned(), request(&ids[0]).to_string(), "garbage"),
        (format!("queue.w1.{}", ids[0]), "hello".to_owned(), "looks like"),
        (format!("queue.w1.{}", ids[1]), request(&new_id()).to_string(), "not the job of the subject"),
        (format!("queue.w1.{}", ids[2]), with(&ids[2], "expires_ms", Value::Null), "says until when"),
        (
            format!("queue.w1.{}", ids[3]),
            with(&ids[3], "expires_ms", (jiff::Timestamp::now().as_millisecond() + 169 * hour).into()),
            "seven days",
        ),
        (format!("queue.w1.{}", ids[4]), with(&ids[4], "stream", json!({ "window": 1 })), "expires_ms"),
        (format!("queue.w1.{}", ids[5]), with(&ids[5], "expires_ms", 1.into()), "before the time"),
    ];
    for (subject, payload, _) in &garbage {
        let stored = raw.request(subject, payload, SOON).json();
        assert!(stored["seq"].is_number(), "{subject}: {stored}");
    }
    // One that looks like the server's own word that there is no queue.
    let odd = format!("queue.w1.{}", new_id());
    raw.publish_bytes(odd.as_bytes(), b"", Some(b"NATS/1.0 503\r\n\r\n"), b"");
    let good = scene.leave();
    scene.have_run(&[&good]);
    scene.fleet.daemon("w1").wait_for_line(SOON, |line| line.contains(&odd));
    let log = scene.fleet.daemon("w1").stderr();
    for (subject, _, said) in &garbage {
        let line =
            log.lines().find(|line| line.contains(subject.as_str())).unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains(said) && line.contains("refused a message from the queue"), "{line}");
    }
    for id in &ids {
        assert_eq!(scene.result(id)["ending"]["refused"]["why"], "bad_request", "{id}");
    }
}

#[test]
fn a_request_of_somebodys_own_runs_and_never_twice() {
    let scene = Scene::new();
    let mut raw = Raw::connect(&scene.fleet.url());
    let id = new_id();
    let mut request = request(&id);
    request["shell_cmd"] =
        format!("echo $PEERBUS_JOB >> '{}'", scene.fleet.path().join("ran").display()).into();
    let subject = format!("queue.w1.{id}");
    raw.request(&subject, request.to_string(), SOON);
    scene.have_run(&[&id]);
    // The same again, another one under its id, and the same by the other way.
    raw.request(&subject, request.to_string(), SOON);
    scene.nothing_waits();
    let mut other = request.clone();
    other["user"] = "nobody".into();
    raw.request(&subject, other.to_string(), SOON);
    scene.nothing_waits();
    let refused = raw.request("exec.w1", request.to_string(), SOON).json();
    assert!(refused["message"].as_str().unwrap().contains("only a request in the queue"), "{refused}");
    never(A_WHILE, "it ran again", || (scene.ran().len() > 1).then(|| scene.ran()));
    assert_eq!(scene.result(&id)["ending"]["exited"]["code"], 0);
}

#[test]
fn what_a_clock_says_was_not_made_yet_waits() {
    let scene = Scene::new();
    let mut raw = Raw::connect(&scene.fleet.url());
    // The caller's clock is some seconds ahead.
    let made = jiff::Timestamp::now().as_millisecond() + 4_000;
    let at = uuid::Timestamp::from_unix(
        uuid::NoContext,
        made.unsigned_abs() / 1000,
        u32::try_from(made % 1000).unwrap() * 1_000_000,
    );
    let id = uuid::Uuid::new_v7(at).to_string();
    let line = format!("date +%s%3N >> '{}'", scene.fleet.path().join("ran").display());
    let request = json!({ "id": id, "directory": "/", "shell_cmd": line, "expires_ms": made + 60_000 });
    raw.request(&format!("queue.w1.{id}"), request.to_string(), SOON);
    let ran = eventually(SOON, "it to run", || scene.ran().pop());
    assert!(ran.parse::<i64>().unwrap() >= made, "{ran} before {made}");
    scene.nothing_waits();
}

#[test]
fn what_the_policy_does_not_allow_is_refused_when_it_comes_up() {
    let scene = Scene::with(DaemonOptions::worker("w1"));
    let done =
        scene.fleet.d(["exec", "--queue", "w1", "-C", "/no/such/place", "--", "true"]).expect_success();
    let job = done.out().trim().to_owned();
    scene.nothing_waits();
    let result = eventually(SOON, "the end", || {
        let result = scene.result(&job);
        result["ending"].is_object().then_some(result)
    });
    assert_eq!(result["ending"]["not_started"]["why"], "no_such_directory", "{result}");
    let done = scene.fleet.d(["exec", "--queue", "w1", "--", "true"]).expect_success();
    let job = done.out().trim().to_owned();
    scene.nothing_waits();
    assert_eq!(scene.result(&job)["ending"]["refused"]["why"], "no_directory");
}
