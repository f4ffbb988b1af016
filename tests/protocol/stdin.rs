//! Standard input: chunks that overlap, come twice or too early, and an end that is repeated.

use serde_json::json;

use crate::talk::{A_WHILE, Caller, job_id, one_worker, streamed};

#[test]
fn chunks_are_joined_by_their_offsets() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    let mut request = streamed(&id, fleet.path(), "cat; until [ -e go ]; do sleep 0.02; done", 1 << 20);
    request["stdin"] = json!(true);
    caller.request(&request);
    let want = caller.frame_of("want").json();
    assert_eq!((&want["received"], &want["closed"]), (&json!(0), &json!(false)), "{want}");
    let granted = want["limit"].as_u64().unwrap();
    assert!(granted >= 64 * 1024, "{want}");
    // What is sent, what has then been received without a hole, and whether it is asked for again:
    // once for each hole, or every late chunk would have everything sent anew.
    let steps: [(u64, &[u8], u64, bool); 10] = [
        (0, b"abc", 3, false),
        (0, b"abc", 3, false),
        (5, b"fg", 3, true),
        (7, b"", 3, false),
        (1, b"bcde", 5, false),
        (2, b"", 5, false),
        (0, b"abcdefg", 7, false),
        (granted * 4, b"far", 7, true),
        (u64::MAX, b"farther", 7, false),
        (u64::MAX, b"", 7, false),
    ];
    let mut out = Vec::new();
    let mut want_of = |caller: &mut Caller| {
        loop {
            let frame = caller.frame();
            match frame.kind.as_str() {
                "out" => out.extend_from_slice(frame.bytes()),
                "want" => return frame.json(),
                _ => {}
            }
        }
    };
    for (offset, bytes, received, again) in steps {
        caller.stdin(&id, offset, bytes);
        let want = want_of(&mut caller);
        let said = (want["received"].as_u64(), want["again"].as_bool());
        assert_eq!(said, (Some(received), Some(again)), "after {bytes:?} at {offset}: {want}");
        assert_eq!(want["closed"], false, "after {bytes:?} at {offset}: {want}");
    }
    for _ in 0..5 {
        caller.stdin(&id, 7, b"");
        assert_eq!(want_of(&mut caller)["closed"], true);
    }
    caller.stdin(&id, 7, b"after the end");
    std::fs::write(fleet.path().join("go"), "").unwrap();
    let result = loop {
        let frame = caller.frame();
        match frame.kind.as_str() {
            "out" => out.extend_from_slice(frame.bytes()),
            "result" => break frame.json(),
            _ => {}
        }
    };
    assert_eq!(String::from_utf8_lossy(&out), "abcdefg");
    assert_eq!(result["ending"], json!({"exited": {"code": 0}}));
    caller.frame_of("end");
    for _ in 0..3 {
        caller.stdin(&id, 7, b"");
    }
    let late = caller.next(A_WHILE);
    assert!(late.is_none(), "nothing follows the end: {late:?}");
}

#[test]
fn no_more_is_taken_than_was_granted() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    let line = "until [ -e go ]; do sleep 0.02; done; cat | wc -c";
    let mut request = streamed(&id, fleet.path(), line, 1 << 20);
    request["stdin"] = json!(true);
    caller.request(&request);
    let granted = caller.frame_of("want").json()["limit"].as_u64().unwrap();
    let piece = vec![b'x'; 60_000];
    let (mut offset, mut limit) = (0, granted);
    // Nobody reads: the pipe holds a little, the grant is the rest.
    while offset < granted * 4 {
        caller.stdin(&id, offset, &piece);
        let want = caller.frame_of("want").json();
        let received = want["received"].as_u64().unwrap();
        limit = want["limit"].as_u64().unwrap();
        assert!(received <= limit, "{want}");
        if received == offset {
            break;
        }
        offset = received;
    }
    assert!(offset < granted * 2, "took {offset} with nobody reading");
    std::fs::write(fleet.path().join("go"), "").unwrap();
    let total = granted * 4;
    while offset < total {
        let end = (offset + 60_000).min(limit).min(total);
        if end > offset {
            caller.stdin(&id, offset, &piece[..usize::try_from(end - offset).unwrap()]);
        }
        let want = caller.frame_of("want").json();
        offset = want["received"].as_u64().unwrap();
        limit = want["limit"].as_u64().unwrap();
    }
    caller.stdin(&id, total, b"");
    let out = caller.frame_of("out");
    assert_eq!(String::from_utf8_lossy(out.bytes()).trim(), total.to_string());
}

#[test]
fn a_command_that_reads_no_more_is_told_to_the_caller() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    let mut request =
        streamed(&id, fleet.path(), "head -c 3; exec <&-; until [ -e go ]; do sleep 0.02; done", 1000);
    request["stdin"] = json!(true);
    caller.request(&request);
    caller.frame_of("want");
    caller.stdin(&id, 0, b"abcdef");
    assert_eq!(caller.frame_of("out").bytes(), b"abc");
    let mut offset = 6;
    loop {
        caller.stdin(&id, offset, b"more");
        let want = caller.frame_of("want").json();
        offset = want["received"].as_u64().unwrap();
        if want["closed"] == true {
            break;
        }
    }
    std::fs::write(fleet.path().join("go"), "").unwrap();
    assert_eq!(caller.frame_of("result").json()["ending"], json!({"exited": {"code": 0}}));
}
