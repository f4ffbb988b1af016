//! Words about a job: cancel, signal, resume, and who may say them.

use std::path::Path;

use serde_json::json;

use crate::harness::procs;
use crate::harness::wait::eventually;
use crate::talk::{
    A_WHILE, Caller, SOON, Story, error_of, job_id, lines, one_worker, plain, streamed, wait_for_file,
};

const UNTIL_GO: &str = "touch began; until [ -e go ]; do sleep 0.02; done";

#[test]
fn a_cancel_does_not_change_how_a_command_has_ended() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    // Half of it fits into the window, the rest into the pipe: the command ends, its job does not.
    let line = "head -c 100000 /dev/zero; echo $$ > pid.new; mv pid.new pid; exit 7";
    caller.request(&streamed(&id, fleet.path(), line, 50_000));
    caller.frame_of("accepted");
    let pid = fleet.path().join("pid");
    wait_for_file(&pid);
    let process = Path::new("/proc").join(std::fs::read_to_string(pid).unwrap().trim());
    // Gone, and no zombie either: the daemon knows how it ended.
    eventually(SOON, "the command to have ended", || (!process.exists()).then_some(()));
    caller.say(&id, "cancel", json!({"why": "too late"}).to_string());
    assert_eq!(caller.frame_of("answer").json()["answer"], "running");
    caller.say(&id, "resume", json!({"epoch": 2, "out": 0, "err": 0, "limit": 1_000_000}).to_string());
    let result = caller.frame_of("result").json();
    assert_eq!(result["ending"], json!({"exited": {"code": 7}}), "{result}");
    assert_eq!(result["out"]["bytes"], 100_000, "{result}");
}

#[test]
fn a_cancel_that_comes_first_is_a_tombstone() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    let cancel = |caller: &mut Caller| {
        caller.say(&id, "cancel", "{}");
        let answer = caller.frame_of("answer").json();
        assert_eq!(answer["type"], "peerbus.cancel_answer.v1");
        assert_eq!((&answer["id"], &answer["answer"]), (&json!(id), &json!("never_seen")), "{answer}");
    };
    cancel(&mut caller);
    cancel(&mut caller);
    let request = streamed(&id, fleet.path(), "echo ran >> ran", 1000);
    let mut plain = plain(fleet.path(), "echo ran >> ran");
    plain["id"] = json!(id);
    for restart in [false, true] {
        if restart {
            fleet.daemon("w1").restart();
        }
        caller.request(&request);
        let ending = caller.frame_of("result").json()["ending"].clone();
        assert_eq!(ending["refused"]["why"], "cancelled_before", "{ending}");
        caller.frame_of("end");
        let (word, _, sentence) = error_of(&caller.raw.request("exec.w1", plain.to_string(), SOON));
        assert!(word == "refused" && sentence.contains("cancelled"), "{sentence}");
        cancel(&mut caller);
    }
    assert!(!fleet.path().join("ran").exists());
}

#[test]
fn a_cancel_without_any_text_is_one_too() {
    let fleet = one_worker();
    let mut caller = Caller::new(&fleet.url());
    caller.say(&job_id(), "cancel", "");
    assert_eq!(caller.frame_of("answer").json()["answer"], "never_seen");
}

#[test]
fn a_cancel_stops_the_whole_tree_and_says_what_it_found() {
    let fleet = one_worker();
    let (mut caller, id, marker) = (Caller::new(&fleet.url()), job_id(), procs::marker());
    let line = format!(
        "setsid sh -c 'while :; do sleep 1; done' {marker} & sh -c 'while :; do sleep 1; done' {marker} & wait"
    );
    let request = streamed(&id, fleet.path(), &line, 1000);
    caller.request(&request);
    caller.frame_of("accepted");
    // The shell itself has the marker among its arguments, too.
    procs::wait_until_running(&marker, 3, SOON);
    // One that is meant for another daemon is none.
    caller.say(&id, "cancel", json!({"instance": uuid::Uuid::new_v4().to_string()}).to_string());
    caller.say(&id, "cancel", json!({"why": "of no use"}).to_string());
    let answer = caller.frame_of("answer").json();
    assert_eq!(answer["answer"], "running", "{answer}");
    let result = caller.frame_of("result").json();
    assert_eq!(result["ending"], json!({"cancelled": {"why": "of no use"}}));
    assert!(result["killed"].as_u64().unwrap() >= 2, "{result}");
    procs::wait_until_job_gone(&id, SOON);
    caller.frame_of("end");
    caller.credit(&id, 1, 4, &Story::default(), true);
    for restart in [false, true] {
        if restart {
            fleet.daemon("w1").restart();
        }
        let mut late = Caller::new(&fleet.url());
        // Whether its caller's last word has arrived or not, it has ended.
        late.say(&id, "cancel", "{}");
        let answer = late.frame_of("answer").json();
        assert_eq!(answer["answer"], "ended", "{answer}");
    }
}

#[test]
fn a_signal_is_applied_once_however_often_it_is_sent() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    let got = fleet.path().join("got");
    let line = format!("trap 'echo hup >> got' HUP; {UNTIL_GO}; echo over");
    let request = streamed(&id, fleet.path(), &line, 1000);
    caller.request(&request);
    wait_for_file(&fleet.path().join("began"));
    caller.see_it_run(&request);
    let signal = |caller: &mut Caller, n: u64, name: &str| {
        caller.say(&id, "signal", json!({"n": n, "signal": name}).to_string());
        let signalled = caller.frame_of("signalled").json();
        assert_eq!(signalled["n"], n, "{signalled}");
        signalled["error"].clone()
    };
    assert!(signal(&mut caller, 1, "HUP").is_null());
    eventually(SOON, "the signal to be applied", || (lines(&got) == 1).then_some(()));
    for _ in 0..9 {
        assert!(signal(&mut caller, 1, "HUP").is_null());
    }
    assert!(signal(&mut caller, 2, "HUP").is_null());
    eventually(SOON, "the second signal to be applied", || (lines(&got) >= 2).then_some(()));
    let error = signal(&mut caller, 3, "NOSUCH");
    assert!(error.as_str().unwrap().contains("NOSUCH"), "{error}");
    // An older number says only that it was applied.
    assert!(signal(&mut caller, 2, "KILL").is_null());
    let mut other = Caller::new(&fleet.url());
    // Who may stop it may signal it too, with numbers of its own.
    for _ in 0..2 {
        other.say(&id, "signal", json!({"n": 1, "signal": "WINCH"}).to_string());
        assert_eq!(other.frame_of("answer").json(), json!({"n": 1}));
    }
    // Meant for another daemon: not even answered.
    let elsewhere = uuid::Uuid::new_v4().to_string();
    caller.say(&id, "signal", json!({"n": 4, "signal": "KILL", "instance": elsewhere}).to_string());
    std::fs::write(fleet.path().join("go"), "").unwrap();
    let result = caller.frame_of("result").json();
    assert_eq!(result["ending"], json!({"exited": {"code": 0}}));
    assert_eq!(lines(&got), 2);
}

#[test]
fn an_interrupt_reaches_everything_the_command_has_started() {
    let fleet = one_worker();
    let (mut caller, id, marker) = (Caller::new(&fleet.url()), job_id(), procs::marker());
    let idle = format!("sh -c 'while :; do sleep 1; done' {marker}");
    let line = format!("setsid {idle} & {idle}; sleep 1000");
    let request = streamed(&id, fleet.path(), &line, 1000);
    caller.request(&request);
    procs::wait_until_running(&marker, 3, SOON);
    caller.see_it_run(&request);
    caller.say(&id, "signal", json!({"n": 1, "signal": "INT"}).to_string());
    let ending = caller.frame_of("result").json()["ending"].clone();
    assert_eq!(ending["signalled"]["signal"], "INT", "{ending}");
    procs::wait_until_job_gone(&id, SOON);
}

#[test]
fn only_its_caller_steers_a_job() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    let line = format!("head -c 5000 /dev/zero; {UNTIL_GO}; echo over");
    caller.request(&streamed(&id, fleet.path(), &line, 1000));
    assert_eq!(caller.read_out(1000).len(), 1000);
    let mut other = Caller::new(&fleet.url());
    for (verb, body) in [
        ("resume", json!({"epoch": 2, "out": 0, "err": 0, "limit": 100_000})),
        ("credit", json!({"epoch": 1, "limit": 100_000, "frames": 5000, "out": 1000, "err": 0})),
    ] {
        other.say(&id, verb, body.to_string());
        let (word, code, _) = error_of(&other.frame_of("answer").message);
        assert_eq!((word.as_str(), code), ("not_yours", 403), "{verb}");
    }
    assert!(other.next(A_WHILE).is_none(), "and not a frame of it");
    assert!(caller.next(A_WHILE).is_none_or(|frame| !frame.is_output()), "nor more for its caller");
    std::fs::write(fleet.path().join("go"), "").unwrap();
    let credit = json!({"epoch": 1, "limit": 100_000, "frames": 5000, "out": 1000, "err": 0});
    caller.say(&id, "credit", credit.to_string());
    assert_eq!(caller.frame_of("result").json()["out"]["bytes"], 5005);
}

#[test]
fn a_resume_sends_again_what_was_not_received_to_the_byte() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    caller.request(&streamed(&id, fleet.path(), "seq 1 20000", 60_000));
    let first = caller.read_out(60_000);
    let whole: Vec<u8> = (1..=20_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    assert_eq!(first, whole[..60_000]);
    // A word for another daemon, and an epoch that is known, begin nothing.
    let elsewhere = uuid::Uuid::new_v4().to_string();
    let stray = json!({"epoch": 2, "out": 0, "err": 0, "limit": 90_000, "instance": elsewhere});
    caller.say(&id, "resume", stray.to_string());
    while let Some(frame) = caller.next(A_WHILE) {
        // It may say meanwhile that it lives.
        assert_eq!(frame.kind, "alive", "{frame:?}");
    }
    let (mut epoch, mut have) = (1, first.len());
    for (from, limit) in [(1234, 60_000), (60_000, 80_000), (79_999, 200_000)] {
        epoch += 1;
        let resume = json!({"epoch": epoch, "out": from, "err": 0, "limit": limit});
        for _ in 0..3 {
            caller.say(&id, "resume", resume.to_string());
        }
        // What was sent before the new epoch began is of no account.
        let first = std::iter::repeat_with(|| caller.frame()).find(|frame| frame.epoch == epoch);
        let first = first.expect("there is always a next");
        assert_eq!((first.kind.as_str(), first.seq), ("accepted", 1));
        let (mut seq, mut out) = (1, from);
        have = have.max(limit.min(whole.len()));
        while out < have {
            let frame = caller.frame();
            if matches!(frame.kind.as_str(), "accepted" | "alive") {
                seq = seq.max(frame.seq);
                continue;
            }
            assert_eq!((frame.kind.as_str(), frame.epoch, frame.seq), ("out", epoch, seq + 1));
            assert_eq!(frame.offset, Some(out as u64));
            assert_eq!(frame.bytes(), &whole[out..out + frame.bytes().len()]);
            seq = frame.seq;
            out += frame.bytes().len();
        }
        assert_eq!(out, have);
    }
    let result = caller.frame_of("result").json();
    assert_eq!(result["out"]["blake3"], blake3::hash(&whole).to_hex().to_string());
    caller.frame_of("end");
    // The ending is told again for as long as its caller has not confirmed it.
    let resume = json!({"epoch": epoch + 1, "out": whole.len(), "err": 0, "limit": 200_000});
    caller.say(&id, "resume", resume.to_string());
    assert_eq!(caller.frame_of("accepted").json()["state"], "ended");
    assert_eq!(caller.frame_of("result").json(), result);
    caller.frame_of("end");
    // And to anyone who asks how it ended.
    let mut other = Caller::new(&fleet.url());
    assert_eq!(other.result(&id).json()["ending"], result["ending"]);
    other.say(&id, "cancel", "");
    let answer = other.frame_of("answer").json();
    assert_eq!((&answer["answer"], &answer["result"]["ending"]), (&json!("ended"), &result["ending"]));
}
