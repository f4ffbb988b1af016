//! The wire, letter by letter: `tests/golden/` holds one message of every kind, as it travels.
//!
//! Each file is what its value is encoded to, byte for byte (and a line end), and is decoded to that
//! value again; with fields in it that only a later version knows, too. Whoever changes one of these
//! files changes what other versions have to understand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;

use peerbus::daemon::state::{self, DaemonState, State};
use peerbus::process;
use peerbus::protocol::ending::{Refusal, StartFailure};
use peerbus::protocol::exec::{
    self, Collected, ExecRequest, JobResult, Rusage, StreamOptions, StreamTotal, Truncated,
};
use peerbus::protocol::frame::{
    self, Accepted, Alive, FrameKind, Gap, JobState, Signalled, StreamKind, Want,
};
use peerbus::protocol::heartbeat::{self, Heartbeat, PeerState, Role};
use peerbus::protocol::peers::{
    self, EventKind, Found, GetAnswer, GetRequest, ListRequest, Page, PeerEvent, PeerRow, Presence,
};
use peerbus::protocol::reply::{self, ErrorBody};
use peerbus::protocol::service::{self, Counts, Document, Question};
use peerbus::protocol::steer::{
    self, CancelAnswer, CancelRequest, Cancelled, Credit, Resume, SignalRequest, Steer,
};
use peerbus::protocol::subjects::{self, Below, Verb};
use peerbus::protocol::{BadMessage, Ending, Instance, JobId, PeerId, decode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const JOB: &str = "0197c0de-0000-7000-8000-00000000cafe";
const INSTANCE: &str = "11111111-2222-4333-8444-555555555555";
/// Of no bytes at all.
const EMPTY: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

fn job() -> JobId {
    JOB.parse().unwrap()
}

fn instance() -> Instance {
    INSTANCE.parse().unwrap()
}

fn peer(id: &str) -> PeerId {
    id.parse().unwrap()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The file's text, without its line end.
#[track_caller]
fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.strip_suffix('\n').expect("a line end").to_owned()
}

/// Checks one message against its file, in both directions.
#[track_caller]
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    golden_by(name, value, decode::json);
}

/// The same for a message that has a decoder of its own.
#[track_caller]
fn golden_by<T: Serialize + PartialEq + Debug>(
    name: &str,
    value: &T,
    decode: impl Fn(&[u8]) -> Result<T, BadMessage>,
) {
    let text = file(name);
    let encoded = String::from_utf8(decode::to_json(value)).unwrap();
    assert_eq!(encoded, text, "{name} is encoded otherwise");
    assert_eq!(decode(text.as_bytes()).as_ref(), Ok(value), "{name} is decoded otherwise");
    let later = with_later_fields(serde_json::from_str(&text).unwrap(), "").to_string();
    assert_ne!(later, text);
    assert_eq!(decode(later.as_bytes()).as_ref(), Ok(value), "{name} with fields of a later version");
}

/// Puts a field nobody knows into every object that is a message or a part of one. `env` and
/// `metadata` have names of their own, and an ending has exactly one.
fn with_later_fields(value: Value, key: &str) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: serde_json::Map<String, Value> = fields
                .into_iter()
                .map(|(key, value)| {
                    let value = with_later_fields(value, &key);
                    (key, value)
                })
                .collect();
            if !["env", "metadata", "ending"].contains(&key) {
                fields.insert("a_later_field".to_owned(), json!({ "of": ["a", "later", "version"] }));
            }
            Value::Object(fields)
        }
        Value::Array(items) => items.into_iter().map(|item| with_later_fields(item, "")).collect(),
        other => other,
    }
}

fn bare(ending: Ending) -> JobResult {
    JobResult::bare(Some(job()), peer("w1"), instance(), ending)
}

fn whole_result() -> JobResult {
    let total = |bytes, blake3: &str| Some(StreamTotal { bytes, blake3: blake3.to_owned() });
    let hello = blake3::hash(b"hello\n").to_hex().to_string();
    JobResult {
        out: total(6, &hello),
        err: total(0, EMPTY),
        duration_ms: 1234,
        killed: 1,
        left_running: 2,
        output_open: true,
        rusage: Some(Rusage { user_ms: 10, system_ms: 20, max_rss_kib: 3400 }),
        ..bare(Ending::Exited { code: 7 })
    }
}

fn row(id: &str) -> PeerRow {
    PeerRow {
        peer_id: peer(id),
        ip_address: text("10.0.0.2"),
        mac_address: text("aa:bb:cc:dd:ee:ff"),
        hostname: "vps.example".to_owned(),
        last_seen: "2026-11-21T10:11:12Z".to_owned(),
        is_online: true,
        daemon_version: "0.1.0".to_owned(),
        state: Presence::Online,
        role: Role::Worker,
        instance: Some(instance()),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        jobs: 2,
        load: Some(0.25),
        uptime_s: 99,
        tags: vec!["home".to_owned(), "gpu".to_owned()],
    }
}

#[test]
fn a_request() {
    let line = ExecRequest {
        kind: text("peerbus.exec.v1"),
        id: Some(job()),
        directory: text("/opt/app"),
        shell_cmd: text("git pull && make"),
        argv: None,
        env: BTreeMap::from([("K".to_owned(), "V".to_owned()), ("LANG".to_owned(), "de_DE".to_owned())]),
        user: None,
        stdin: false,
        tty: None,
        timeout_ms: None,
        durable: false,
        stream: Some(StreamOptions { window: 1_048_576 }),
    };
    golden_by("exec_request_line", &line, ExecRequest::decode);
    let argv = ExecRequest {
        shell_cmd: None,
        argv: Some(["git", "log", "-m", "two words", "", "grüße\n"].map(str::to_owned).to_vec()),
        env: BTreeMap::new(),
        user: text("ann"),
        stdin: true,
        timeout_ms: Some(30_000),
        directory: text("~/src"),
        ..line
    };
    golden_by("exec_request_argv", &argv, ExecRequest::decode);
    // What a person types.
    let typed = ExecRequest::decode(br#"{"directory":"/opt/app","shellCmd":"make"}"#).unwrap();
    assert_eq!((typed.shell_cmd, typed.stream, typed.id), (text("make"), None, None));
    assert_eq!((exec::TYPE, exec::WINDOW), ("peerbus.exec.v1", 1_048_576));
    assert_eq!((exec::JOB_VARIABLE, exec::PEER_VARIABLE), ("PEERBUS_JOB", "PEERBUS_PEER"));
}

#[test]
fn a_result() {
    golden("result", &whole_result());
    assert_eq!(exec::RESULT_TYPE, "peerbus.result.v1");
    let why = "no directory is named".to_owned();
    golden("result_refused", &bare(Ending::Refused { why: Refusal::NoDirectory, message: why }));
}

#[test]
fn a_plain_reply() {
    let collected = Collected {
        stdout: text("hello\n"),
        stderr_b64: text("/wA="),
        truncated: Truncated { stdout: 0, stderr: 1_000_000 },
        ..Collected::default()
    };
    golden("plain_reply", &JobResult { collected: Some(collected), ..whole_result() });
}

/// Checks a part of a message, in both directions.
#[track_caller]
fn part<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, text: &str) {
    assert_eq!(String::from_utf8(decode::to_json(value)).unwrap(), text);
    assert_eq!(&serde_json::from_str::<T>(text).unwrap(), value);
}

#[test]
fn every_ending() {
    let (why, message) = ("asked to".to_owned(), "enough".to_owned());
    part(&Ending::Exited { code: 7 }, r#"{"exited":{"code":7}}"#);
    part(
        &Ending::Signalled { signal: "KILL".to_owned(), number: 9 },
        r#"{"signalled":{"signal":"KILL","number":9}}"#,
    );
    part(&Ending::TimedOut {}, r#"{"timed_out":{}}"#);
    part(&Ending::Cancelled { why: why.clone() }, r#"{"cancelled":{"why":"asked to"}}"#);
    part(
        &Ending::Refused { why: Refusal::Limit, message: message.clone() },
        r#"{"refused":{"why":"limit","message":"enough"}}"#,
    );
    part(
        &Ending::NotStarted { why: StartFailure::NoSuchUser, message },
        r#"{"not_started":{"why":"no_such_user","message":"enough"}}"#,
    );
    part(&Ending::Offline {}, r#"{"offline":{}}"#);
    part(&Ending::Unknown { why }, r#"{"unknown":{"why":"asked to"}}"#);
}

#[test]
fn every_fixed_word_of_an_ending() {
    for (word, text) in [
        (Refusal::BadRequest, "bad_request"),
        (Refusal::ReplySubject, "reply_subject"),
        (Refusal::NotSupported, "not_supported"),
        (Refusal::NoDirectory, "no_directory"),
        (Refusal::User, "user"),
        (Refusal::Limit, "limit"),
        (Refusal::Conflict, "conflict"),
        (Refusal::Stopping, "stopping"),
        (Refusal::Journal, "journal"),
        (Refusal::CancelledBefore, "cancelled_before"),
        (Refusal::NotYours, "not_yours"),
    ] {
        part(&word, &format!("{text:?}"));
    }
    for (word, text) in [
        (StartFailure::NoSuchDirectory, "no_such_directory"),
        (StartFailure::NotADirectory, "not_a_directory"),
        (StartFailure::DirectoryDenied, "directory_denied"),
        (StartFailure::NoSuchUser, "no_such_user"),
        (StartFailure::CommandNotFound, "command_not_found"),
        (StartFailure::NotExecutable, "not_executable"),
        (StartFailure::System, "system"),
        (StartFailure::NeverArrived, "never_arrived"),
        (StartFailure::NoSuchPeer, "no_such_peer"),
        (StartFailure::BusUnreachable, "bus_unreachable"),
    ] {
        part(&word, &format!("{text:?}"));
    }
}

#[test]
fn the_frames_of_a_stream() {
    let accepted = Accepted { instance: instance(), state: JobState::Running, stdin_received: 5, signals: 1 };
    golden("accepted", &accepted);
    golden("want", &Want { received: 65_536, limit: 327_680, again: true, closed: false });
    golden("signalled", &Signalled { n: 1, error: None });
    golden("signalled_error", &Signalled { n: 2, error: text("\"NOSUCH\" is not a signal") });
    golden("alive", &Alive { out: 1, err: 2, stdin_received: 3 });
    golden("gap", &Gap { stream: StreamKind::Err, from: 100, to: 200 });
    for (state, word) in
        [(JobState::Starting, "starting"), (JobState::Running, "running"), (JobState::Ended, "ended")]
    {
        part(&state, &format!("{word:?}"));
    }
    part(&StreamKind::Out, "\"out\"");
    part(&StreamKind::Err, "\"err\"");
    // Fields that may be left out.
    let want: Want = decode::json(br#"{"received":1,"limit":2}"#).unwrap();
    assert_eq!(want, Want { received: 1, limit: 2, again: false, closed: false });
}

#[test]
fn the_words_of_a_caller() {
    let credit = Credit {
        epoch: 2,
        instance: Some(instance()),
        limit: 2_097_152,
        frames: 1_100,
        out: 1_000_000,
        err: 48_576,
        done: true,
    };
    let about =
        |verb: Verb| move |payload: &[u8]| Steer::decode(verb, None, bytes::Bytes::copy_from_slice(payload));
    let resume =
        Resume { epoch: 3, instance: Some(instance()), out: 1_000_000, err: 48_576, limit: 2_097_152 };
    let signal = SignalRequest { n: 1, instance: None, signal: "INT".to_owned() };
    let cancel = CancelRequest { instance: Some(instance()), why: text("d was ended") };
    golden("credit", &credit);
    golden("resume", &resume);
    golden("signal", &signal);
    golden("cancel", &cancel);
    // As a daemon takes them.
    for (name, verb, wanted) in [
        ("credit", Verb::Credit, Steer::Credit(credit)),
        ("resume", Verb::Resume, Steer::Resume(resume)),
        ("signal", Verb::Signal, Steer::Signal(signal)),
        ("cancel", Verb::Cancel, Steer::Cancel(cancel)),
    ] {
        assert_eq!(about(verb)(file(name).as_bytes()), Ok(wanted), "{name}");
    }
    assert_eq!(about(Verb::Cancel)(b""), Ok(Steer::Cancel(CancelRequest::default())));
    assert_eq!(about(Verb::Result)(b""), Ok(Steer::Result));
    let chunk = Steer::decode(Verb::Stdin, Some(7), bytes::Bytes::from_static(b"\0\xff"));
    assert_eq!(chunk, Ok(Steer::Stdin { offset: 7, bytes: bytes::Bytes::from_static(b"\0\xff") }));
    assert!(about(Verb::Stdin)(b"x").unwrap_err().0.contains("`D-Offset`"));
    assert_eq!((steer::FRAMES_IN_FLIGHT, steer::CREDIT_EVERY_MS), (1_024, 5_000));
}

#[test]
fn the_answer_to_a_cancel() {
    let answer = |answer, result| CancelAnswer {
        kind: "peerbus.cancel_answer.v1".to_owned(),
        id: job(),
        instance: instance(),
        answer,
        result,
    };
    golden("cancel_answer_never_seen", &answer(Cancelled::NeverSeen, None));
    golden("cancel_answer_ended", &answer(Cancelled::Ended, Some(Box::new(whole_result()))));
    part(&Cancelled::Running, "\"running\"");
    assert_eq!(steer::CANCEL_TYPE, "peerbus.cancel_answer.v1");
}

#[test]
fn a_heartbeat() {
    let beat = Heartbeat {
        kind: "peerbus.heartbeat.v1".to_owned(),
        peer_id: peer("vps"),
        state: PeerState::Up,
        instance: instance(),
        seq: 42,
        interval_ms: 5_000,
        hostname: "vps.example".to_owned(),
        ip_address: text("10.0.0.1"),
        mac_address: None,
        role: Role::Worker,
        daemon_version: "0.1.0".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        uptime_s: 99,
        load: Some(0.3),
        jobs: 2,
        tags: vec!["home".to_owned()],
    };
    golden_by("heartbeat", &beat, Heartbeat::decode);
    let leaving = Heartbeat {
        state: PeerState::Leaving,
        role: Role::Leader,
        ip_address: None,
        load: None,
        tags: Vec::new(),
        ..beat
    };
    golden_by("heartbeat_leaving", &leaving, Heartbeat::decode);
    golden("ping", &heartbeat::Ping { instance: instance() });
    assert_eq!((heartbeat::TYPE, heartbeat::INTERVAL_MS), ("peerbus.heartbeat.v1", 5_000));
}

#[test]
fn questions_to_the_registry() {
    let list =
        ListRequest { kind: text("peerbus.peers_list.v1"), after: Some(peer("vps")), limit: Some(100) };
    golden_by("peers_list", &list, ListRequest::decode);
    assert_eq!(ListRequest::decode(b""), Ok(ListRequest::default()));
    let get = GetRequest { kind: text("peerbus.peers_get.v1"), peer: "vps.example".to_owned() };
    golden_by("peers_get", &get, GetRequest::decode);
    assert_eq!((peers::LIST_TYPE, peers::GET_TYPE), ("peerbus.peers_list.v1", "peerbus.peers_get.v1"));
}

#[test]
fn answers_of_the_registry() {
    let bare = PeerRow {
        ip_address: None,
        mac_address: None,
        is_online: false,
        state: Presence::Offline,
        role: Role::Leader,
        instance: None,
        load: None,
        tags: Vec::new(),
        ..row("z")
    };
    let page = Page {
        kind: "peerbus.peers_page.v1".to_owned(),
        peers: vec![row("vps"), bare],
        next: Some(peer("z")),
        leader: peer("lead"),
        leader_instance: instance(),
        age_ms: 15_000,
    };
    golden("peers_page", &page);
    let answer = |found| GetAnswer {
        kind: "peerbus.peer.v1".to_owned(),
        asked: "vps.example".to_owned(),
        found,
        leader: peer("lead"),
    };
    golden("peer_one", &answer(Found::One { peer: Box::new(row("vps")) }));
    golden("peer_none", &answer(Found::None {}));
    golden("peer_many", &answer(Found::Many { ids: vec![peer("a"), peer("b")] }));
    for (presence, word) in [
        (Presence::Online, "online"),
        (Presence::Offline, "offline"),
        (Presence::Unknown, "unknown"),
        (Presence::Conflict, "conflict"),
    ] {
        part(&presence, &format!("{word:?}"));
    }
    assert_eq!((peers::PAGE_TYPE, peers::PEER_TYPE), ("peerbus.peers_page.v1", "peerbus.peer.v1"));
    assert_eq!(peers::PAGE_MAX, 1_000);
}

#[test]
fn an_event() {
    let event = PeerEvent {
        kind: "peerbus.peer_event.v1".to_owned(),
        event: EventKind::Offline,
        peer_id: peer("vps"),
        at: "2026-11-21T10:11:12Z".to_owned(),
        why: "no heartbeat for 15 s".to_owned(),
    };
    golden("peer_event", &event);
    assert_eq!(peers::EVENT_TYPE, "peerbus.peer_event.v1");
}

#[test]
fn an_error() {
    let body = ErrorBody {
        id: Some(job()),
        ending: Some(Ending::Refused { why: Refusal::Limit, message: "enough".to_owned() }),
        ..ErrorBody::new("refused", "enough")
    };
    golden("error", &body);
    golden("error_without_a_job", &ErrorBody::new("bad_request", "field `peer`: it is missing"));
    assert_eq!(reply::ERROR_TYPE, "peerbus.error.v1");
}

#[test]
fn the_services_api() {
    let identity = service::Identity {
        peer: peer("vps"),
        instance: instance(),
        version: "0.1.0".to_owned(),
        started: "2026-11-21T10:11:12Z".to_owned(),
        metadata: BTreeMap::from([
            ("os".to_owned(), "linux".to_owned()),
            ("peer".to_owned(), "vps".to_owned()),
        ]),
    };
    let counts =
        Counts { requests: 4, errors: 1, last_error: "refused: enough".to_owned(), processing_ns: 4_000_000 };
    for (question, name) in
        [(Question::Ping, "srv_ping"), (Question::Info, "srv_info"), (Question::Stats, "srv_stats")]
    {
        golden::<Document>(name, &service::answer(question, &identity, &counts));
    }
    assert_eq!((service::NAME, service::PING_ALL), ("exec", "$SRV.PING.exec"));
    let all = ["$SRV.*".to_owned(), "$SRV.*.exec".to_owned(), format!("$SRV.*.exec.{INSTANCE}")];
    assert_eq!(service::question_subjects(instance()), all);
    for (subject, wanted) in [
        ("$SRV.PING", Some(Question::Ping)),
        ("$SRV.INFO.exec", Some(Question::Info)),
        (&format!("$SRV.STATS.exec.{INSTANCE}"), Some(Question::Stats)),
        ("$SRV.PING.other", None),
        (&format!("$SRV.PING.exec.{JOB}"), None),
    ] {
        assert_eq!(service::question(subject, instance()), wanted, "{subject}");
    }
}

#[test]
fn the_state_file() {
    let state = DaemonState {
        kind: "peerbus.daemon_state.v1".to_owned(),
        state: State::Stopped,
        state_reason: "asked to stop".to_owned(),
        since: "2026-11-21T10:11:12Z".to_owned(),
        process: process::Identity {
            pid: 4711,
            start_time: 123_456,
            boot_id: "99999999-8888-4777-8666-555555555555".to_owned(),
        },
        instance: instance(),
        version: "0.1.0".to_owned(),
        peer_id: peer("vps"),
        role: Role::Worker,
        nats: "nats://10.0.0.1:4222".to_owned(),
    };
    golden("state", &state);
    assert_eq!((state::TYPE, state::FILE), ("peerbus.daemon_state.v1", "state.json"));
    for (state, word) in [
        (State::Starting, "starting"),
        (State::Ready, "ready"),
        (State::Stopping, "stopping"),
        (State::Stopped, "stopped"),
        (State::Failed, "failed"),
    ] {
        part(&state, &format!("{word:?}"));
    }
}

#[test]
fn the_names_of_subjects_and_headers() {
    let vps = peer("vps");
    assert_eq!(subjects::exec(&vps), "exec.vps");
    assert_eq!(subjects::below_exec(&vps), "exec.vps.>");
    assert_eq!(subjects::ping(&vps), "exec.vps.ping");
    assert_eq!(subjects::parse_below("exec.vps.ping"), Below::Ping);
    for (verb, word) in [
        (Verb::Credit, "credit"),
        (Verb::Stdin, "stdin"),
        (Verb::Signal, "signal"),
        (Verb::Resume, "resume"),
        (Verb::Cancel, "cancel"),
        (Verb::Result, "result"),
    ] {
        let subject = format!("exec.vps.{JOB}.{word}");
        assert_eq!(subjects::job(&vps, job(), verb), subject);
        assert_eq!(subjects::parse_below(&subject), Below::Job(job(), verb));
    }
    for (kind, word) in [
        (EventKind::Joined, "joined"),
        (EventKind::Online, "online"),
        (EventKind::Offline, "offline"),
        (EventKind::Conflict, "conflict"),
        (EventKind::Removed, "removed"),
    ] {
        assert_eq!(subjects::event(kind, &vps), format!("peers.event.{word}.vps"));
        part(&kind, &format!("{word:?}"));
    }
    assert_eq!((subjects::ALIVE, subjects::LIST, subjects::GET), ("peers.alive", "peers.list", "peers.get"));
    assert_eq!((subjects::EXEC_QUEUE, subjects::REGISTRY_QUEUE), ("exec", "registry"));

    assert_eq!((frame::EPOCH, frame::SEQ, frame::KIND), ("D-Epoch", "D-Seq", "D-Kind"));
    assert_eq!((frame::OFFSET, steer::INSTANCE_HEADER), ("D-Offset", "D-Instance"));
    assert_eq!(reply::ERROR_HEADER, "Nats-Service-Error");
    assert_eq!(reply::ERROR_CODE_HEADER, "Nats-Service-Error-Code");
    assert_eq!((frame::OUTPUT_MAX, frame::ALIVE_EVERY_MS), (65_536, 5_000));
    for (kind, word) in [
        (FrameKind::Accepted, "accepted"),
        (FrameKind::Out, "out"),
        (FrameKind::Err, "err"),
        (FrameKind::Want, "want"),
        (FrameKind::Signalled, "signalled"),
        (FrameKind::Alive, "alive"),
        (FrameKind::Gap, "gap"),
        (FrameKind::Result, "result"),
        (FrameKind::End, "end"),
        (FrameKind::Answer, "answer"),
    ] {
        assert_eq!((kind.as_str(), word.parse()), (word, Ok(kind)));
    }
}

#[test]
fn every_file_is_somebodys() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files: BTreeSet<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // The journal is nobody's business but the daemon's: `src/daemon/journal.rs` holds it to its file.
    let own = include_str!("wire.rs");
    for file in files.iter().filter(|file| *file != "journal_record.jsonl") {
        let name = file.strip_suffix(".json").expect("a JSON file");
        assert!(own.contains(&format!("\"{name}\"")), "{file} is checked by nobody");
    }
    assert!(files.contains("journal_record.jsonl"));
}
