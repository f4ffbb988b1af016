//! A plain request: one question, one JSON answer, as `nats req` shows it.

use base64::Engine;
use serde_json::{Value, json};

use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::{Message, Raw};
use crate::harness::server::ServerOptions;
use crate::harness::wait::never;
use crate::talk::{A_WHILE, Caller, SOON, error_of, job_id, lines, one_worker, plain, wait_for_file};

fn asked(fleet: &Fleet, line: &str) -> Message {
    Raw::connect(&fleet.url()).request("exec.w1", plain(fleet.path(), line).to_string(), SOON)
}

/// Length of an output in an answer, whichever way it came, and what was cut out of it.
fn size(answer: &Value, stream: &str) -> (usize, u64) {
    let whole = match answer[format!("{stream}_b64")].as_str() {
        Some(text) => base64::engine::general_purpose::STANDARD.decode(text).expect("base64").len(),
        None => answer[stream].as_str().expect("text").len(),
    };
    (whole, answer["truncated"][stream].as_u64().expect("a number"))
}

#[test]
fn a_plain_request_gets_one_json_answer() {
    let fleet = one_worker();
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    let sid = raw.subscribe(&inbox);
    let request = plain(fleet.path(), "echo to out; echo to err >&2; exit 3");
    raw.publish_reply("exec.w1", &inbox, request.to_string());
    let answer = raw.expect_on(sid, SOON, "the answer");
    assert_eq!((answer.headers.len(), &answer.reply), (0, &None), "{answer:?}");
    let body = answer.json();
    assert_eq!(body["type"], "peerbus.result.v1");
    assert_eq!(body["peer"], "w1");
    assert_eq!(body["ending"], json!({ "exited": { "code": 3 } }));
    assert_eq!((&body["stdout"], &body["stderr"]), (&json!("to out\n"), &json!("to err\n")));
    assert_eq!(body["truncated"], json!({ "stdout": 0, "stderr": 0 }));
    assert!(body["duration_ms"].is_u64(), "{body}");
    let id: uuid::Uuid = body["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
    never(A_WHILE, "a second answer", || raw.next_on(sid, std::time::Duration::ZERO));
}

#[test]
fn both_names_of_the_shell_line_and_an_argv_are_understood() {
    let fleet = one_worker();
    let mut raw = Raw::connect(&fleet.url());
    for command in [json!({"shell_cmd": "echo $K-x"}), json!({"shellCmd": "echo $K-x"})] {
        let mut request = command;
        request["directory"] = json!("/");
        request["env"] = json!({"K": "v"});
        assert_eq!(raw.request("exec.w1", request.to_string(), SOON).json()["stdout"], "v-x\n");
    }
    let exact = json!({"directory": "/", "argv": ["printf", "%s|", "a b", "$K", ""], "future": [1]});
    assert_eq!(raw.request("exec.w1", exact.to_string(), SOON).json()["stdout"], "a b|$K||");
}

#[test]
fn output_that_is_no_text_comes_in_base64() {
    let fleet = one_worker();
    let body = asked(&fleet, r"printf '\377\000'; echo text >&2").json();
    assert_eq!((&body["stdout_b64"], &body["stdout"]), (&json!("/wA="), &Value::Null), "{body}");
    assert_eq!((&body["stderr"], &body["stderr_b64"]), (&json!("text\n"), &Value::Null), "{body}");
}

#[test]
fn an_answer_never_exceeds_what_the_server_takes() {
    for limit in [1 << 20, 64 * 1024] {
        let fleet = Fleet::builder().server(ServerOptions::new().max_payload(limit)).worker("w1").start();
        let zeros = "head -c 1500000 /dev/zero";
        for (line, out, err) in [
            (format!("echo begin; {zeros} | tr '\\0' x; echo end"), 1_500_010, 0),
            // Six bytes of JSON for each byte of it.
            (format!("{zeros} | tr '\\0' '\\1'; {zeros} >&2"), 1_500_000, 1_500_000),
            (format!("{zeros} | tr '\\0' '\\377'; echo short >&2"), 1_500_000, 6),
        ] {
            let answer = asked(&fleet, &line);
            assert!(answer.payload.len() <= limit, "{} of {limit}", answer.payload.len());
            assert!(answer.payload.len() > limit / 2, "{} of {limit} for {line}", answer.payload.len());
            let body = answer.json();
            assert_eq!(body["ending"], json!({ "exited": { "code": 0 } }));
            for (stream, written) in [("stdout", out), ("stderr", err)] {
                let (kept, cut) = size(&body, stream);
                assert_eq!(kept as u64 + cut, written, "{stream} of {line}");
            }
            if let Some(text) = body["stdout"].as_str().filter(|text| text.starts_with("begin")) {
                assert!(text.ends_with("xend\n"), "the end is kept");
            }
            assert_eq!(size(&body, "stderr").1 == 0, err < 10, "short output stays whole");
        }
    }
}

#[test]
fn requests_up_to_the_servers_limit_are_taken() {
    let fleet = one_worker();
    let mut raw = Raw::connect(&fleet.url());
    let limit = raw.max_payload();
    let padded = |size: usize| {
        let mut request = plain(fleet.path(), "echo ran >> ran; echo whole");
        request["padding"] = json!("");
        let missing = size - request.to_string().len();
        request["padding"] = "p".repeat(missing).into();
        request.to_string()
    };
    for size in [limit - 1, limit] {
        let request = padded(size);
        assert_eq!(request.len(), size);
        assert_eq!(raw.request("exec.w1", request, SOON).json()["stdout"], "whole\n");
    }
    // The server ends who sends too much, perhaps before all of it was written.
    let mut line = format!("PUB exec.w1 _INBOX.nobody.1 {}\r\n", limit + 1).into_bytes();
    line.extend_from_slice(padded(limit + 1).as_bytes());
    line.extend_from_slice(b"\r\n");
    let _ = raw.try_send(&line);
    assert!(raw.wait_for_disconnect(SOON));
    assert_eq!(lines(&fleet.path().join("ran")), 2);
    assert_eq!(asked(&fleet, "echo on").json()["stdout"], "on\n");
}

#[test]
fn texts_too_long_for_anything_still_get_an_answer() {
    let fleet = Fleet::builder().server(ServerOptions::new().max_payload(64 * 1024)).worker("w1").start();
    let mut raw = Raw::connect(&fleet.url());
    let long = "\u{1}x".repeat(20_000);
    let all = |long: &str| {
        [
            json!({"directory": format!("/{long}"), "shell_cmd": "true"}),
            json!({"directory": long, "shell_cmd": "true"}),
            json!({"directory": "/", "argv": [long]}),
            json!({"directory": "/", "argv": [format!("/{long}")]}),
            json!({"directory": "/", "shell_cmd": "true", "user": long}),
            json!({"directory": "/", "shell_cmd": "true", "env": {format!("{long}="): ""}}),
            json!({"directory": "/", "shell_cmd": "true", "timeout_ms": long}),
            json!({"directory": "/", "shell_cmd": "true", "id": long}),
            json!({"directory": "/", "shell_cmd": "true", "type": long}),
            json!({"directory": "/", "shell_cmd": "true", "env": {long: 1}}),
        ]
    };
    // As long as a request can be: quoted in an answer they would not fit.
    for request in all(&"y".repeat(60_000)).into_iter().chain(all(&long[..16_000])) {
        let shown: String = request.to_string().chars().take(70).collect();
        let answer = raw.request("exec.w1", request.to_string(), SOON);
        let (word, _, sentence) = error_of(&answer);
        assert!(["refused", "not_started"].contains(&word.as_str()), "{shown}: {word}");
        assert!(sentence.len() < 4096, "a sentence of {} bytes for {shown}", sentence.len());

        let mut streamed = request;
        streamed["stream"] = json!({"window": 1000});
        let mut caller = Caller::new(&fleet.url());
        caller.request(&streamed);
        let ending = caller.frame_of("result").json()["ending"].clone();
        assert!(ending["refused"].is_object() || ending["not_started"].is_object(), "{ending}");
        caller.frame_of("end");
    }
}

#[test]
fn a_result_is_kept_for_who_asks_later() {
    let fleet = one_worker();
    let (mut caller, id) = (Caller::new(&fleet.url()), job_id());
    let unknown = caller.result(&id);
    assert_eq!(error_of(&unknown).0, "unknown_job");
    let mut request = plain(fleet.path(), "echo kept; exit 5");
    request["id"] = json!(id);
    let first = caller.raw.request("exec.w1", request.to_string(), SOON);
    assert_eq!((&first.json()["id"], &first.json()["stdout"]), (&json!(id), &json!("kept\n")));
    assert_eq!(caller.result(&id).payload, first.payload);
    fleet.daemon("w1").restart();
    assert_eq!(caller.result(&id).payload, first.payload, "a new daemon has it too");
}

#[test]
fn a_requester_that_stops_waiting_does_not_stop_the_job() {
    let fleet = one_worker();
    let (id, go) = (job_id(), fleet.path().join("go"));
    let mut request = plain(fleet.path(), "touch began; until [ -e go ]; do sleep 0.05; done; echo late");
    request["id"] = json!(id);
    let mut leaves = Raw::connect(&fleet.url());
    let inbox = leaves.new_inbox();
    leaves.subscribe(&inbox);
    leaves.publish_reply("exec.w1", &inbox, request.to_string());
    wait_for_file(&fleet.path().join("began"));
    drop(leaves);

    // Who asks while it runs is answered when it ends.
    let mut waits = Caller::new(&fleet.url());
    waits.say(&id, "result", "");
    waits.raw.barrier();
    assert!(waits.next(A_WHILE).is_none(), "it has not ended");
    std::fs::write(go, "").unwrap();
    let inbox = waits.inbox.clone();
    let answer = waits.raw.next_where(SOON, |message| message.subject == inbox).expect("the result");
    assert_eq!(answer.json()["stdout"], "late\n");
    assert_eq!(waits.result(&id).json()["ending"], json!({ "exited": { "code": 0 } }));
}

#[test]
fn without_an_id_every_request_is_another_job() {
    let fleet = one_worker();
    let ids: Vec<String> =
        (0..3).map(|_| asked(&fleet, "echo ran >> ran").json()["id"].as_str().unwrap().to_owned()).collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    assert_eq!(lines(&fleet.path().join("ran")), 3);
}

#[test]
fn what_cannot_run_is_an_error_with_a_word_and_a_sentence() {
    let fleet = one_worker();
    let mut raw = Raw::connect(&fleet.url());
    for (request, word, part) in [
        (json!({"shell_cmd": "true"}), "refused", "directory"),
        (json!({"shell_cmd": "true", "directory": "/no/such"}), "not_started", "/no/such"),
        (json!({"argv": ["no-such-command"], "directory": "/"}), "not_started", "no-such-command"),
        (
            json!({"shell_cmd": "true", "directory": "/", "user": "no-such-user"}),
            "not_started",
            "no-such-user",
        ),
        (json!({"shell_cmd": "true", "directory": "/", "tty": {}}), "refused", "tty"),
        (json!({"shell_cmd": "true", "directory": "/", "name": "x"}), "refused", "name"),
        (json!({"shell_cmd": "true", "directory": "/no/such", "durable": true}), "not_started", "/no/such"),
    ] {
        let (said, _, sentence) = error_of(&raw.request("exec.w1", request.to_string(), SOON));
        assert_eq!(said, word, "{sentence}");
        assert!(sentence.contains(part), "{request}: {sentence}");
    }
}

#[test]
fn a_default_directory_is_used_where_none_is_named() {
    let fleet = Fleet::builder().daemon(DaemonOptions::worker("w1").directory("/usr")).start();
    let mut raw = Raw::connect(&fleet.url());
    assert_eq!(raw.request("exec.w1", r#"{"shell_cmd":"pwd"}"#, SOON).json()["stdout"], "/usr\n");
}
