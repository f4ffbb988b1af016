//! The frames of a stream: their numbers, their order, and how many may be under way.

use std::time::Duration;

use serde_json::json;

use crate::talk::{A_WHILE, Caller, SOON, job_id, one_worker, streamed};

#[test]
fn a_stream_has_its_frames_in_order_with_the_documented_headers() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    // Each word waits until the one before has come: else two of them could share a frame.
    let line = "echo one; until [ -e a ]; do sleep 0.02; done; echo two >&2; \
        until [ -e b ]; do sleep 0.02; done; echo three; exit 9";
    caller.request(&streamed(&id, fleet.path(), line, 1 << 20));
    let accepted = caller.frame();
    assert_eq!((accepted.kind.as_str(), accepted.epoch, accepted.seq), ("accepted", 1, 1));
    assert_eq!(accepted.message.reply, Some(format!("exec.w1.{id}.credit")));
    let body = accepted.json();
    assert!(body["instance"].as_str().unwrap().parse::<uuid::Uuid>().is_ok(), "{body}");
    assert_eq!((&body["state"], &body["stdin_received"]), (&json!("starting"), &json!(0)), "{body}");
    for (seq, kind, offset, text, go) in
        [(2, "out", 0, "one\n", "a"), (3, "err", 0, "two\n", "b"), (4, "out", 4, "three\n", "c")]
    {
        let frame = caller.frame();
        assert_eq!((frame.kind.as_str(), frame.epoch, frame.seq, frame.offset), (kind, 1, seq, Some(offset)));
        assert_eq!(frame.message.text(), text);
        assert_eq!(frame.message.reply, Some(format!("exec.w1.{id}.credit")));
        let mut names: Vec<_> = frame.message.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["D-Epoch", "D-Kind", "D-Offset", "D-Seq"]);
        std::fs::write(fleet.path().join(go), "").unwrap();
    }
    let result = caller.frame();
    assert_eq!((result.kind.as_str(), result.seq, result.offset), ("result", 5, None));
    let body = result.json();
    assert_eq!(
        (&body["type"], &body["id"], &body["peer"]),
        (&json!("peerbus.result.v1"), &json!(id), &json!("w1"))
    );
    assert_eq!(body["ending"], json!({"exited": {"code": 9}}));
    assert_eq!(
        body["out"],
        json!({"bytes": 10, "blake3": blake3::hash(b"one\nthree\n").to_hex().to_string()})
    );
    assert_eq!(body["err"], json!({"bytes": 4, "blake3": blake3::hash(b"two\n").to_hex().to_string()}));
    assert!(body["rusage"]["user_ms"].is_u64(), "{body}");
    let all = (&body["killed"], &body["left_running"], &body["output_open"]);
    assert_eq!(all, (&json!(0), &json!(0), &json!(false)));
    assert!(body.get("stdout").is_none(), "the output is in its frames only: {body}");
    let end = caller.frame();
    assert_eq!((end.kind.as_str(), end.seq, end.bytes()), ("end", 6, &b""[..]));
    assert!(caller.next(A_WHILE).is_none(), "nothing follows the end");
}

#[test]
fn large_output_on_both_streams_is_whole() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    let line = "head -c 5000000 /dev/urandom & head -c 4000000 /dev/urandom >&2 & wait";
    caller.request(&streamed(&id, fleet.path(), line, 1 << 20));
    let story = caller.follow(&id);
    assert_eq!((story.out.len(), story.err.len(), story.code()), (5_000_000, 4_000_000, Some(0)));
    story.expect_whole();
}

#[test]
fn without_credit_nothing_goes_beyond_the_window() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    let line = "head -c 300000 /dev/zero & head -c 300000 /dev/zero >&2 & wait";
    caller.request(&streamed(&id, fleet.path(), line, 100_000));
    let (mut out, mut err) = (0, 0);
    let mut read = |caller: &mut Caller, upto: usize| {
        while out + err < upto {
            let frame = caller.frame();
            let counted = match frame.kind.as_str() {
                "out" => &mut out,
                "err" => &mut err,
                _ => continue,
            };
            assert_eq!(frame.offset, Some(*counted as u64));
            assert!(frame.bytes().len() <= 64 * 1024);
            *counted += frame.bytes().len();
        }
        assert_eq!(out + err, upto);
        let more = caller.next(A_WHILE).filter(crate::talk::Frame::is_output);
        assert!(more.is_none(), "beyond {upto}: {more:?}");
        (out, err)
    };
    read(&mut caller, 100_000);
    // For another daemon, or less than before: no more comes.
    let elsewhere = uuid::Uuid::new_v4().to_string();
    for credit in [
        json!({"epoch": 1, "limit": 300_000, "frames": 9999, "out": 0, "err": 0, "instance": elsewhere}),
        json!({"epoch": 1, "limit": 0, "frames": 0, "out": 0, "err": 0}),
        json!({"epoch": 1, "limit": 100_000, "frames": 9999, "out": 0, "err": 0}),
    ] {
        caller.say(&id, "credit", credit.to_string());
    }
    read(&mut caller, 100_000);
    let credit = json!({"epoch": 1, "limit": 250_000, "frames": 9999, "out": 0, "err": 0});
    for _ in 0..10 {
        caller.say(&id, "credit", credit.to_string());
    }
    let (out, err) = read(&mut caller, 250_000);
    let credit = json!({"epoch": 1, "limit": 1_000_000, "frames": 9999, "out": out, "err": err});
    caller.say(&id, "credit", credit.to_string());
    let result = caller.frame_of("result").json();
    assert_eq!((&result["out"]["bytes"], &result["err"]["bytes"]), (&json!(300_000), &json!(300_000)));
}

#[test]
fn a_caller_that_never_acknowledges_costs_no_more_than_four_mebibytes() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    caller.request(&streamed(&id, fleet.path(), "head -c 20000000 /dev/zero", u64::MAX));
    let out = caller.read_out(4 << 20);
    let more = caller.next(A_WHILE).filter(crate::talk::Frame::is_output);
    assert!(more.is_none(), "after {} bytes: {more:?}", out.len());
    // All that was read before the end is still told. The command ends first: given credit, it could
    // write on until it is stopped.
    caller.say(&id, "cancel", "{}");
    crate::harness::procs::wait_until_job_gone(&id, SOON);
    let credit = json!({"epoch": 1, "limit": u64::MAX, "frames": 9999, "out": out.len(), "err": 0});
    caller.say(&id, "credit", credit.to_string());
    let result = caller.frame_of("result").json();
    assert!(result["out"]["bytes"].as_u64().unwrap() < 5 << 20, "{result}");
}

#[test]
fn at_most_1024_frames_are_under_way_whatever_their_size() {
    let fleet = one_worker();
    nix::unistd::mkfifo(&fleet.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    // One byte at a time, each a frame of its own.
    let line = "while :; do printf x; read -t 0.003 <> fifo; done";
    caller.request(&streamed(&id, fleet.path(), line, 1 << 20));
    let mut last = 0;
    let mut read = |caller: &mut Caller, upto: u64| {
        // Word that the job lives needs no credit, and has a number like any frame.
        while last < upto {
            let frame = caller.frame();
            assert_eq!(frame.seq, last + 1);
            last = frame.seq;
        }
        for _ in 0..2 {
            let frame = caller.next(A_WHILE);
            assert!(!frame.as_ref().is_some_and(crate::talk::Frame::is_output), "beyond {upto}: {frame:?}");
            last = frame.map_or(last, |frame| frame.seq);
        }
    };
    read(&mut caller, 1024);
    let credit = json!({"epoch": 1, "limit": 1 << 20, "frames": 1100, "out": 0, "err": 0});
    caller.say(&id, "credit", credit.to_string());
    read(&mut caller, 1100);
    caller.say(&id, "cancel", "{}");
    let credit = json!({"epoch": 1, "limit": 2 << 20, "frames": 9999, "out": 0, "err": 0});
    caller.say(&id, "credit", credit.to_string());
    caller.frame_of("result");
}

#[test]
fn a_job_says_that_it_lives_without_being_asked() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    caller.request(&streamed(&id, fleet.path(), "printf abc; until [ -e go ]; do sleep 0.02; done", 3));
    assert_eq!(caller.read_out(3), b"abc");
    // It says so every five seconds, and its caller begins to worry after fifteen.
    let alive = caller.next(Duration::from_secs(12)).expect("word within twelve seconds");
    assert_eq!((alive.kind.as_str(), alive.seq), ("alive", 3));
    let body = alive.json();
    assert_eq!((&body["out"], &body["err"], &body["stdin_received"]), (&json!(3), &json!(0), &json!(0)));
    std::fs::write(fleet.path().join("go"), "").unwrap();
    assert!(caller.next(SOON).is_some());
}
