//! An id runs once, whatever is repeated, by whom, and across which restarts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::nats::Raw;
use crate::harness::wait::eventually;
use crate::talk::{Caller, SOON, error_of, job_id, lines, one_worker, plain, streamed, wait_for_file};

#[test]
fn a_streamed_request_sent_ten_times_runs_once() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    let line = "echo ran >> ran; until [ -e go ]; do sleep 0.02; done; echo done";
    let request = streamed(&id, fleet.path(), line, 1 << 20);
    for _ in 0..5 {
        caller.request(&request);
    }
    wait_for_file(&fleet.path().join("ran"));
    for _ in 0..5 {
        caller.request(&request);
    }
    caller.raw.barrier();
    std::fs::write(fleet.path().join("go"), "").unwrap();
    let story = caller.follow(&id);
    assert_eq!((story.code(), story.out.as_slice()), (Some(0), b"done\n".as_slice()));
    assert_eq!(story.kinds.iter().filter(|kind| *kind == "result").count(), 1);
    // Its ending is told again, and nothing runs, now (whether its caller's last word has arrived or
    // not) and after a restart.
    for restart in [false, true] {
        if restart {
            fleet.daemon("w1").restart();
        }
        let mut again = Caller::new(&fleet.url());
        again.request(&request);
        assert_eq!(again.frame_of("result").json()["ending"], json!({ "exited": { "code": 0 } }));
        again.frame_of("end");
    }
    assert_eq!(lines(&fleet.path().join("ran")), 1);
}

#[test]
fn ten_plain_requests_run_once_and_all_are_answered() {
    let fleet = one_worker();
    let mut request = plain(fleet.path(), "echo ran >> ran; echo hello");
    request["id"] = json!(job_id());
    let mut raw = Raw::connect(&fleet.url());
    let inboxes: Vec<String> = (0..10).map(|_| raw.new_inbox()).collect();
    let sids: Vec<u64> = inboxes.iter().map(|inbox| raw.subscribe(inbox)).collect();
    for inbox in &inboxes {
        raw.publish_reply("exec.w1", inbox, request.to_string());
    }
    let answers: Vec<_> = sids.iter().map(|sid| raw.expect_on(*sid, SOON, "an answer")).collect();
    assert_eq!(answers[0].json()["stdout"], "hello\n");
    assert!(answers.iter().all(|answer| answer.payload == answers[0].payload));
    fleet.daemon("w1").restart();
    assert_eq!(raw.request("exec.w1", request.to_string(), SOON).payload, answers[0].payload);
    assert_eq!(lines(&fleet.path().join("ran")), 1);
}

#[test]
fn whoever_asks_around_the_very_end_of_a_job_is_answered() {
    let fleet = one_worker();
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    let sid = raw.subscribe(&format!("{inbox}.*"));
    for round in 0..5 {
        let id = job_id();
        // What it leaves behind makes its end take a moment, in which questions arrive.
        let mut request =
            plain(fleet.path(), &format!("sleep 0.{:02}; sleep 1 > /dev/null 2>&1 &", round * 5));
        request["id"] = json!(id);
        let result = format!("exec.w1.{id}.result");
        let mut unanswered = BTreeSet::new();
        let begin = Instant::now();
        for number in 0.. {
            let reply = format!("{inbox}.{number}");
            match number % 2 {
                0 => raw.publish_reply("exec.w1", &reply, request.to_string()),
                _ => raw.publish_reply(&result, &reply, ""),
            }
            raw.barrier();
            unanswered.insert(reply);
            if begin.elapsed() > Duration::from_millis(round * 50 + 300) {
                break;
            }
            // Not to wait for anything: so that the questions come one by one, and not too many.
            std::thread::sleep(Duration::from_millis(5));
        }
        while !unanswered.is_empty() {
            let Some(answer) = raw.next_on(sid, SOON) else {
                panic!("round {round}: {} never answered: {unanswered:?}", unanswered.len());
            };
            assert!(unanswered.remove(&answer.subject), "answered twice: {answer:?}");
        }
    }
}

#[test]
fn who_finds_too_many_waiting_is_told_at_once() {
    let fleet = one_worker();
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    let sid = raw.subscribe(&format!("{inbox}.*"));
    let mut request = plain(fleet.path(), "touch began; until [ -e go ]; do sleep 0.02; done");
    request["id"] = json!(job_id());
    for number in 0..300 {
        raw.publish_reply("exec.w1", &format!("{inbox}.{number}"), request.to_string());
        if number == 0 {
            wait_for_file(&fleet.path().join("began"));
        }
        if number % 100 == 99 {
            // The job takes its messages in turn, so those before this one have been taken.
            let mut other = plain(fleet.path(), "true");
            other["id"] = request["id"].clone();
            let (word, ..) = error_of(&raw.request("exec.w1", other.to_string(), SOON));
            assert_eq!(word, "refused");
        }
    }
    for _ in 256..300 {
        let answer = raw.expect_on(sid, SOON, "a refusal");
        let (word, code, sentence) = error_of(&answer);
        assert_eq!((word.as_str(), code), ("limit", 429), "{sentence}");
    }
    std::fs::write(fleet.path().join("go"), "").unwrap();
    for _ in 0..256 {
        let answer = raw.expect_on(sid, SOON, "an answer").json();
        assert_eq!(answer["ending"], json!({ "exited": { "code": 0 } }), "{answer}");
    }
}

#[test]
fn another_request_under_the_same_id_is_refused() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    let request = streamed(&id, fleet.path(), "touch began; until [ -e go ]; do sleep 0.02; done", 1000);
    let other = streamed(&id, fleet.path(), "echo ran >> other", 1000);
    let mut other_plain = plain(fleet.path(), "echo ran >> other");
    other_plain["id"] = json!(id);
    caller.request(&request);
    wait_for_file(&fleet.path().join("began"));
    for stage in ["running", "ended", "after a restart"] {
        match stage {
            "ended" => {
                std::fs::write(fleet.path().join("go"), "").unwrap();
                assert_eq!(caller.follow(&id).code(), Some(0));
            }
            "after a restart" => fleet.daemon("w1").restart(),
            _ => {}
        }
        let mut second = Caller::new(&fleet.url());
        second.request(&other);
        let ending = second.frame_of("result").json()["ending"].clone();
        assert_eq!(ending["refused"]["why"], "not_yours", "{stage}: {ending}");
        second.frame_of("end");
        let (word, _, sentence) = error_of(&second.raw.request("exec.w1", other_plain.to_string(), SOON));
        assert!(word == "refused" && sentence.contains(&id), "{stage}: {sentence}");
    }
    assert!(!fleet.path().join("other").exists());
}

#[test]
fn ten_callers_at_once_run_it_once() {
    let fleet = one_worker();
    let mut request = plain(fleet.path(), "echo ran >> ran; echo hello");
    for _ in 0..5 {
        request["id"] = json!(job_id());
        let _ = std::fs::remove_file(fleet.path().join("ran"));
        let text = request.to_string();
        let url = fleet.url();
        let answers: Vec<_> = std::thread::scope(|scope| {
            let ask = || scope.spawn(|| Raw::connect(&url).request("exec.w1", &text, SOON).payload);
            let asking: Vec<_> = (0..10).map(|_| ask()).collect();
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        assert_eq!(eventually(SOON, "it to run", || Some(lines(&fleet.path().join("ran")))), 1);
    }
}
