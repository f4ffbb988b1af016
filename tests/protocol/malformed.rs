//! What is wrong is answered by its name, or ignored where nobody may be answered; nothing runs,
//! and the daemon goes on.

use serde_json::{Value, json};

use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::relay::Direction;
use crate::harness::wait::eventually;
use crate::talk::{A_WHILE, Caller, SOON, error_of, job_id, one_worker, plain, streamed, wait_for_file};

#[track_caller]
fn expect_alive(fleet: &Fleet) {
    let request = plain(fleet.path(), "echo alive").to_string();
    assert_eq!(Raw::connect(&fleet.url()).request("exec.w1", request, SOON).json()["stdout"], "alive\n");
}

#[test]
fn answers_go_to_inboxes_only_and_nothing_runs_for_others() {
    let fleet = one_worker();
    let mut raw = Raw::connect(&fleet.url());
    let everything = raw.subscribe(">");
    let request = |word: &str| plain(fleet.path(), &format!("echo {word} >> ran")).to_string();
    let replies = [
        "",
        "exec.w2",
        "a.b",
        "a",
        "*",
        ">",
        "_INBOX",
        "_INBOX.*",
        "_INBOX.a.>",
        "_INBOXES.a",
        "peers.alive",
    ];
    for reply in replies {
        raw.publish_reply("exec.w1", reply, request(&format!("'{reply}'")));
        let mut stream: Value = serde_json::from_str(&request("stream")).unwrap();
        stream["stream"] = json!({"window": 1000});
        raw.publish_reply("exec.w1", reply, stream.to_string());
        let id = job_id();
        for verb in ["credit", "stdin", "signal", "resume", "cancel", "result"] {
            raw.publish_reply(&format!("exec.w1.{id}.{verb}"), reply, "{}");
        }
        raw.publish_reply("exec.w1.ping", reply, "");
        raw.publish_reply("$SRV.PING.exec", reply, "");
        raw.publish_reply("exec.w1", reply, "no JSON");
    }
    raw.barrier();
    // Requests are taken in turn, so those before this one were looked at.
    expect_alive(&fleet);
    let own = ["exec.w1", "$SRV.", "_INBOX."];
    let said: Vec<_> = std::iter::from_fn(|| raw.next_on(everything, A_WHILE))
        .filter(|message| !own.iter().any(|start| message.subject.starts_with(start)))
        // Replies to these subjects would be seen; the heartbeat and what we said ourselves is none.
        .filter(|message| {
            message.subject != "peers.alive" || message.json()["type"] != "peerbus.heartbeat.v1"
        })
        .collect();
    assert_eq!(said, [], "nothing was said to a subject that is no inbox");
    assert!(!fleet.path().join("ran").exists(), "{:?}", std::fs::read_to_string(fleet.path().join("ran")));
    fleet.daemon("w1").wait_for_line(SOON, |line| line.contains("no inbox"));
}

#[test]
fn every_malformed_request_is_answered_by_its_name() {
    let fleet = one_worker();
    let mut raw = Raw::connect(&fleet.url());
    let nested = |open: &str, close: &str| {
        let half = 500_000;
        format!("{}{}", open.repeat(half / open.len()), close.repeat(half / close.len()))
    };
    let with = |field: &str, value: Value| {
        let mut request = plain(fleet.path(), "echo ran >> ran");
        request[field] = value;
        request.to_string().into_bytes()
    };
    let wide = format!("{}0]", "[0,".to_owned() + &"0,".repeat(400_000));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "JSON"),
        (b"ls -l".to_vec(), "looks like"),
        (b"\x00".to_vec(), "JSON"),
        (b"\xff\xfe\xfd".to_vec(), "JSON"),
        (b"{\"shell_cmd\":\"\xff\"}".to_vec(), "shell_cmd"),
        (b"{".to_vec(), "JSON"),
        (b"{}".to_vec(), "shell_cmd"),
        (b"null".to_vec(), "looks like"),
        (b"3".to_vec(), "looks like"),
        (br#"["peerbus.exec.v1", null, "/", "echo ran >> ran"]"#.to_vec(), "looks like"),
        (nested("[", "]").into_bytes(), "looks like"),
        (nested("{\"a\":", "}").into_bytes(), "JSON"),
        (wide.into_bytes(), "looks like"),
        (with("tty", serde_json::from_str(&("[".repeat(100) + &"]".repeat(100))).unwrap()), "tty"),
        (with("type", json!("peerbus.heartbeat.v1")), "type"),
        (with("type", json!(1)), "type"),
        (with("id", json!("7")), "id"),
        (with("id", json!(7)), "id"),
        (with("id", json!("../../etc/passwd")), "id"),
        (with("id", json!(uuid::Uuid::new_v4().to_string())), "id"),
        (with("id", json!(job_id().to_uppercase())), "id"),
        (with("directory", json!("relative")), "directory"),
        (with("directory", json!("")), "directory"),
        (with("directory", json!(["/"])), "directory"),
        (with("directory", json!("/tmp\u{0}/x")), "directory"),
        (with("shell_cmd", json!({"a": 1})), "shell_cmd"),
        (with("shell_cmd", json!("")), "shell_cmd"),
        (with("shell_cmd", json!("echo ran >> ran\u{0}")), "shell_cmd"),
        (with("argv", json!(["a"])), "argv"),
        (br#"{"directory":"/","argv":[]}"#.to_vec(), "argv"),
        (br#"{"directory":"/","argv":[""]}"#.to_vec(), "argv"),
        (br#"{"directory":"/","argv":"ls"}"#.to_vec(), "argv"),
        (br#"{"directory":"/","argv":["ls",null]}"#.to_vec(), "argv[1]"),
        (br#"{"directory":"/","argv":["a\u0000b"]}"#.to_vec(), "argv"),
        (with("env", json!(["A=B"])), "env"),
        (with("env", json!({"A": 1})), "env.A"),
        (with("env", json!({"A": "\u{0}"})), "env.A"),
        (with("env", json!({"": "x"})), "env"),
        (with("env", json!({"A=B": "x"})), "env"),
        (with("env", Value::Null), "env"),
        (with("user", json!(0)), "user"),
        (with("user", json!("a\u{0}")), "user"),
        (with("stdin", json!("yes")), "stdin"),
        (with("stdin", json!(true)), "stdin"),
        (with("timeout_ms", json!(0)), "timeout_ms"),
        (with("timeout_ms", json!(-5)), "timeout_ms"),
        (with("timeout_ms", json!(1.5)), "timeout_ms"),
        (with("timeout_ms", json!(1e300)), "timeout_ms"),
        (with("timeout_ms", json!("30s")), "timeout_ms"),
        (with("durable", json!(1)), "durable"),
        (with("stream", json!(true)), "stream"),
        (with("stream", json!({})), "window"),
        (with("stream", json!({"window": 0})), "stream.window"),
        (with("stream", json!({"window": -1})), "stream.window"),
        (with("stream", json!({"window": "1"})), "stream.window"),
        (br#"{"directory":"/","shell_cmd":"true"}{}"#.to_vec(), "more than one"),
        (br#"{"directory":"/","directory":"/","shell_cmd":"true"}"#.to_vec(), "directory"),
    ];
    for (payload, named) in cases {
        let shown: String = String::from_utf8_lossy(&payload).chars().take(100).collect();
        let is_stream = serde_json::from_slice::<Value>(&payload).is_ok_and(|it| it["stream"].is_object());
        let sentence = if is_stream {
            let mut caller = Caller::new(&fleet.url());
            caller.raw.publish_reply("exec.w1", &caller.inbox.clone(), payload);
            let accepted = caller.frame();
            assert_eq!((accepted.kind.as_str(), accepted.seq), ("accepted", 1));
            let result = caller.frame();
            assert_eq!((result.kind.as_str(), result.seq), ("result", 2));
            assert_eq!(caller.frame().kind, "end");
            let refused = result.json()["ending"]["refused"].clone();
            assert_eq!(refused["why"], "bad_request", "{shown}");
            refused["message"].as_str().unwrap().to_owned()
        } else {
            let answer = raw.request("exec.w1", payload, SOON);
            let (word, code, sentence) = error_of(&answer);
            assert_eq!((word.as_str(), code), ("refused", 400), "{shown}: {sentence}");
            sentence
        };
        assert!(sentence.contains(named), "{shown}: {sentence}");
        assert!(sentence.len() < 4096, "a sentence of {} bytes for {shown}", sentence.len());
    }
    expect_alive(&fleet);
    assert!(!fleet.path().join("ran").exists());
}

#[test]
fn malformed_words_about_a_running_job_are_answered_and_change_nothing() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    let line = "touch began; until [ -e go ]; do sleep 0.02; done; echo unharmed";
    caller.request(&streamed(&id, fleet.path(), line, 1 << 20));
    wait_for_file(&fleet.path().join("began"));
    let mut other = Raw::connect(&fleet.url());
    let fields = ["epoch", "limit", "frames", "out", "err", "n", "signal", "instance", "done", "why"];
    for verb in ["credit", "signal", "resume", "cancel"] {
        let subject = format!("exec.w1.{id}.{verb}");
        let mut bodies: Vec<Vec<u8>> =
            [&b"{"[..], b"no JSON", b"\x00\xff", b"7", b"\"x\"", b"[[[[[[["].map(<[u8]>::to_vec).to_vec();
        bodies.push("[".repeat(500_000).into_bytes());
        if verb != "cancel" {
            bodies.push(b"".to_vec());
            bodies.push(b"{}".to_vec());
        }
        for field in fields {
            // Every field wrong at once but this one: whichever a verb knows, one is wrong.
            let mut body = json!({});
            for wrong in fields.iter().filter(|it| **it != field) {
                body[wrong] = json!([-1, {"x": 1e99}]);
            }
            bodies.push(body.to_string().into_bytes());
        }
        bodies.push(
            json!({"epoch": "x".repeat(300_000), "n": "y".repeat(300_000), "why": [1]})
                .to_string()
                .into_bytes(),
        );
        for body in bodies {
            let shown: String = String::from_utf8_lossy(&body).chars().take(60).collect();
            let (word, code, sentence) = error_of(&other.request(&subject, body, SOON));
            assert_eq!((word.as_str(), code), ("bad_request", 400), "{verb} {shown}: {sentence}");
            assert!(sentence.len() < 4096, "a sentence of {} bytes for {verb} {shown}", sentence.len());
        }
    }
    let (word, _, sentence) = error_of(&other.request(&format!("exec.w1.{id}.stdin"), "x", SOON));
    assert!(word == "bad_request" && sentence.contains("D-Offset"), "{sentence}");
    for subject in ["exec.w1.x", "exec.w1.no-job.credit", "exec.w1.x.y.z.0", &format!("exec.w1.{id}.dance")] {
        let (word, _, sentence) = error_of(&other.request(subject, "{}", SOON));
        assert!(word == "bad_request" && sentence.contains("subject"), "{subject}: {sentence}");
    }
    for offset in ["", "-1", "1e3", "99999999999999999999999", "\u{7f}", "x"] {
        let inbox = other.new_inbox();
        let sid = other.subscribe(&inbox);
        other.publish_headers(&format!("exec.w1.{id}.stdin"), &inbox, &[("D-Offset", offset)], "x");
        assert_eq!(error_of(&other.expect_on(sid, SOON, "an error")).0, "bad_request", "{offset:?}");
    }
    std::fs::write(fleet.path().join("go"), "").unwrap();
    let story = caller.follow(&id);
    assert_eq!((story.code(), story.out.as_slice()), (Some(0), b"unharmed\n".as_slice()));
    story.expect_whole();
}

#[test]
fn extreme_numbers_from_the_caller_itself_harm_nobody_else() {
    let fleet = one_worker();
    let most = u64::MAX;
    for (verb, body) in [
        ("credit", json!({"epoch": 1, "limit": most, "frames": most, "out": most, "err": most})),
        ("credit", json!({"epoch": most, "limit": most, "frames": most, "out": most, "err": most})),
        ("resume", json!({"epoch": most, "out": most, "err": most, "limit": most})),
        ("resume", json!({"epoch": 2, "out": most, "err": 0, "limit": 0})),
        ("signal", json!({"n": most, "signal": "CONT"})),
        ("signal", json!({"n": 1, "signal": "x".repeat(500_000)})),
        ("cancel", json!({"why": "\u{1}".repeat(150_000)})),
    ] {
        let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
        let line = "head -c 200000 /dev/zero; sleep 0.2; head -c 200000 /dev/zero";
        caller.request(&streamed(&id, fleet.path(), line, most));
        caller.frame_of("accepted");
        for _ in 0..3 {
            caller.say(&id, verb, body.to_string());
        }
        let ending = caller.frame_of("result").json()["ending"].clone();
        let wanted = if verb == "cancel" { "cancelled" } else { "exited" };
        assert!(ending[wanted].is_object(), "{verb} {ending}");
        assert!(ending.to_string().len() < 4096, "{verb}");
        caller.frame_of("end");
        expect_alive(&fleet);
    }
}

/// Answers to the malformed wait for the bus; who asks for something sensible does not wait for them.
#[test]
fn malformed_requests_delay_nobody_while_the_bus_takes_hardly_anything() {
    const REQUESTS: usize = 8_000;
    // All answers would take more than a minute. Not nothing: the kernel throws away what comes for a full
    // buffer, and with it the acknowledgements of the requests on their way there.
    const TAKEN: u64 = 250_000;
    let quiet = DaemonOptions::worker("w1").through_relay().env("PEERBUS_LOG", "error,peerbus_bus=warn");
    let fleet = Fleet::builder().daemon(quiet).start();
    let daemon = fleet.daemon("w1");
    let mut raw = Raw::connect(&fleet.url());
    daemon.relay().throttle_way(Direction::ToServer, TAKEN);
    // Each answer repeats what was wrong: together far more than any buffer on the way takes.
    let wrong = json!({ "argv": ["true"], "directory": "\u{fc}".repeat(1_000) }).to_string();
    for _ in 0..REQUESTS {
        raw.publish_reply("exec.w1", "_INBOX.flood.1", &wrong);
        raw.publish_reply("exec.w1.strange", "_INBOX.flood.1", "");
    }
    let request = plain(fleet.path(), "touch ran").to_string();
    raw.publish_reply("exec.w1", "_INBOX.honest.1", request);
    let ran = fleet.path().join("ran");
    // A busy machine takes long for all these requests, and still less than their answers need.
    eventually(SOON * 2, "the command to run", || ran.exists().then_some(()));
    // Not because the daemon had given the connection up meanwhile.
    assert!(!daemon.stderr().contains("lost the connection"), "{}", daemon.stderr());
}
