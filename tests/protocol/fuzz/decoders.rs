//! Every decoder of what comes from the bus, or from a shim.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use peerbus::protocol::attach::Started;
use peerbus::protocol::audit::chain::Chain;
use peerbus::protocol::audit::{self, AuditEntry};
use peerbus::protocol::control::{CancelAnswer, Control};
use peerbus::protocol::exec::{ExecRequest, JobResult};
use peerbus::protocol::frame::{Accepted, Alive, Challenge, Gap, Signalled, StdinCredit};
use peerbus::protocol::health::Health;
use peerbus::protocol::heartbeat::{Heartbeat, Ping, PingHints};
use peerbus::protocol::jetstream::{self, ConsumerInfo, JetStreamError, PublishAck, StreamInfo};
use peerbus::protocol::jobs;
use peerbus::protocol::peers::{
    GET_TYPE, GetAnswer, GetRequest, ListRequest, PeerEvent, PeerPage, REMOVE_TYPE,
};
use peerbus::protocol::policy;
use peerbus::protocol::reply::ErrorBody;
use peerbus::protocol::service::ServiceDocument;
use peerbus::protocol::subjects::{Verb, is_inbox, parse_below, parse_queue};
use peerbus::protocol::{BadMessage, decode};
use peerbus::shim::messages::ShimInfo;
use peerbus::shim::{FromShim, ToShim};
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fuzz::changes::changed;

/// Random messages for each decoder.
const CASES: u32 = 3_000;

/// A decoder: its name, real messages for it, and itself.
pub(crate) struct Decoder {
    pub(crate) name: &'static str,
    seeds: &'static [&'static str],
    pub(crate) decode: fn(&[u8]),
}

/// What was taken is said again, and taken again.
fn again<T: Serialize>(taken: Result<T, BadMessage>, decode: impl Fn(&[u8]) -> Result<T, BadMessage>) {
    match taken {
        Ok(message) => {
            let said = decode::to_json(&message);
            assert!(decode(&said).is_ok(), "{}", String::from_utf8_lossy(&said));
        }
        // It goes back to whoever sent it, and into a log.
        Err(bad) => assert!(!bad.0.is_empty() && bad.0.chars().count() < 4_000, "{} characters", bad.0.len()),
    }
}

fn by<T: Serialize>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, BadMessage>) {
    again(decode(bytes), &decode);
}

fn json<T: Serialize + DeserializeOwned + Debug>(bytes: &[u8]) {
    by(bytes, decode::json::<T>);
}

fn word(verb: Verb, bytes: &[u8]) {
    for offset in [None, Some(0), Some(u64::MAX)] {
        let word = Control::decode(verb, offset, bytes::Bytes::copy_from_slice(bytes));
        // Which instance it is for is asked of all of them.
        assert!(
            word.is_err()
                || word.is_ok_and(|word| word.instance().is_none_or(|it| it.to_string().len() == 36))
        );
    }
}

pub(crate) const ALL: &[Decoder] = &[
    Decoder {
        name: "a request",
        seeds: &["exec_request_argv", "exec_request_line", "exec_request_durable", "exec_request_queued"],
        decode: |b| by(b, ExecRequest::decode),
    },
    Decoder { name: "credit", seeds: &["credit"], decode: |b| word(Verb::Credit, b) },
    Decoder { name: "stdin", seeds: &["credit"], decode: |b| word(Verb::Stdin, b) },
    Decoder { name: "a signal", seeds: &["signal"], decode: |b| word(Verb::Signal, b) },
    Decoder { name: "cancel", seeds: &["cancel", "cancel_unless_begun"], decode: |b| word(Verb::Cancel, b) },
    Decoder { name: "resume", seeds: &["resume", "resume_writer"], decode: |b| word(Verb::Resume, b) },
    Decoder { name: "attach", seeds: &["attach"], decode: |b| word(Verb::Attach, b) },
    Decoder { name: "a size", seeds: &["resize"], decode: |b| word(Verb::Resize, b) },
    Decoder { name: "a start", seeds: &["started"], decode: json::<Started> },
    Decoder { name: "result wanted", seeds: &["cancel"], decode: |b| word(Verb::Result, b) },
    Decoder { name: "accepted", seeds: &["accepted", "accepted_durable"], decode: json::<Accepted> },
    Decoder { name: "want", seeds: &["want"], decode: json::<StdinCredit> },
    Decoder { name: "signalled", seeds: &["signalled", "signalled_error"], decode: json::<Signalled> },
    Decoder { name: "alive", seeds: &["alive"], decode: json::<Alive> },
    Decoder { name: "gap", seeds: &["gap"], decode: json::<Gap> },
    Decoder { name: "a challenge", seeds: &["challenge"], decode: json::<Challenge> },
    Decoder {
        name: "a result",
        seeds: &["result", "result_refused", "plain_reply"],
        decode: json::<JobResult>,
    },
    Decoder {
        name: "an answer to cancel",
        seeds: &["cancel_answer_ended", "cancel_answer_never_seen"],
        decode: json::<CancelAnswer>,
    },
    Decoder { name: "an error", seeds: &["error", "error_without_a_job"], decode: json::<ErrorBody> },
    Decoder {
        name: "a heartbeat",
        seeds: &["heartbeat", "heartbeat_audit", "heartbeat_leaving"],
        decode: |b| by(b, Heartbeat::decode),
    },
    Decoder { name: "a ping", seeds: &["ping"], decode: json::<Ping> },
    Decoder { name: "the leader's word of a queue", seeds: &["look"], decode: json::<PingHints> },
    Decoder { name: "an answer of JetStream", seeds: &["look"], decode: of_jetstream },
    Decoder { name: "peers.list", seeds: &["peers_list"], decode: |b| by(b, ListRequest::decode) },
    Decoder {
        name: "peers.get",
        seeds: &["peers_get"],
        decode: |b| by(b, |b| GetRequest::decode(b, GET_TYPE)),
    },
    Decoder {
        name: "peers.remove",
        seeds: &["peers_remove"],
        decode: |b| by(b, |b| GetRequest::decode(b, REMOVE_TYPE)),
    },
    Decoder { name: "a page of peers", seeds: &["peers_page", "peers_page_after"], decode: json::<PeerPage> },
    Decoder {
        name: "one peer",
        seeds: &["peer_one", "peer_many", "peer_none", "peer_removed", "peer_one_audit"],
        decode: json::<GetAnswer>,
    },
    Decoder { name: "an event", seeds: &["peer_event"], decode: json::<PeerEvent> },
    Decoder { name: "health", seeds: &["ping"], decode: |b| by(b, Health::decode) },
    Decoder {
        name: "the services API",
        seeds: &["srv_ping", "srv_info", "srv_stats"],
        decode: json::<ServiceDocument>,
    },
    Decoder {
        name: "a question for the policy",
        seeds: &["policy_question"],
        decode: |b| by(b, policy::PolicyQuery::decode),
    },
    Decoder {
        name: "an answer of the policy",
        seeds: &["policy_answer_allowed", "policy_answer_refused", "policy_answer_rules"],
        decode: |b| by(b, policy::PolicyAnswer::decode),
    },
    Decoder {
        name: "a question for jobs",
        seeds: &["jobs_query"],
        decode: |b| by(b, jobs::JobQuery::decode),
    },
    Decoder { name: "a page of jobs", seeds: &["jobs_page"], decode: |b| by(b, jobs::JobPage::decode) },
    Decoder {
        name: "a question for the audit log",
        seeds: &["audit_query"],
        decode: |b| by(b, audit::AuditQuery::decode),
    },
    Decoder {
        name: "a page of the audit log",
        seeds: &["audit_page", "audit_page_last"],
        decode: |b| by(b, audit::AuditPage::decode),
    },
    Decoder {
        name: "a line of the audit log",
        seeds: &[
            "audit_line_begun",
            "audit_line_ended",
            "audit_line_malformed",
            "audit_line_gap",
            "audit_line_file",
        ],
        decode: line,
    },
    Decoder { name: "a word to a shim", seeds: &["shim_to"], decode: json::<ToShim> },
    Decoder { name: "a word of a shim", seeds: &["shim_from"], decode: json::<FromShim> },
    Decoder { name: "what a shim is", seeds: &["shim_about"], decode: json::<ShimInfo> },
    Decoder { name: "a subject", seeds: &["ping"], decode: subject },
];

/// A line of a later version is taken and not said again: it is shown as it is.
fn line(bytes: &[u8]) {
    let taken = decode::json::<AuditEntry>(bytes);
    assert!(taken.is_ok() || !taken.unwrap_err().0.is_empty());
    let mut chain = Chain::default();
    (0..3).for_each(|_| chain.line("here", bytes));
    assert!(!chain.finish().is_sound(), "no line continues itself");
}

/// What a server answers is taken, or what is said of it can be shown.
fn of_jetstream(bytes: &[u8]) {
    let whole = format!(r#"{{"message":{{"subject":"queue.w1.x","seq":4,"hdrs":"e30=","data":{bytes:?}}}}}"#);
    let error = serde_json::json!({ "error": { "description": String::from_utf8_lossy(bytes) } });
    let shown = |bytes: &[u8]| {
        let errors: [Option<JetStreamError>; 4] = [
            jetstream::answer::<StreamInfo>(bytes).err(),
            jetstream::answer::<ConsumerInfo>(bytes).err(),
            jetstream::answer::<PublishAck>(bytes).err(),
            jetstream::message(bytes).err(),
        ];
        for error in errors.into_iter().flatten().map(|error| error.to_string()) {
            assert!(error.chars().count() < 4_000 && !error.chars().any(char::is_control), "{error:?}");
        }
    };
    shown(bytes);
    shown(whole.as_bytes());
    shown(error.to_string().as_bytes());
}

fn subject(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let taken = parse_queue(&format!("queue.{text}"));
    assert!(taken.is_ok() || taken.unwrap_err().chars().count() < 4_000);
    let _ = parse_below(&text);
    let _ = parse_below(&format!("exec.w1.{text}"));
    assert!(!is_inbox(&text) || text.starts_with("_INBOX"));
}

fn folder(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(below)
}

/// One message, or one a line.
fn golden(name: &&str) -> Vec<Vec<u8>> {
    let lines = fs::read_to_string(folder("golden").join(format!("{name}.jsonl")));
    let one = || vec![fs::read(folder("golden").join(format!("{name}.json"))).unwrap()];
    lines.map_or_else(|_| one(), |lines| lines.lines().map(|line| line.as_bytes().to_vec()).collect())
}

fn kept() -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder("protocol/fuzz/corpus")).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert!(kept.len() >= 10, "the corpus is not there");
    kept
}

#[test]
fn what_was_kept_is_taken_or_refused() {
    for (path, bytes) in kept() {
        for decoder in ALL {
            let done = std::panic::catch_unwind(|| (decoder.decode)(&bytes));
            assert!(done.is_ok(), "{} as {}", path.display(), decoder.name);
        }
    }
}

#[test]
fn anything_is_taken_or_refused() {
    for decoder in ALL {
        let seeds: Vec<Vec<u8>> = decoder.seeds.iter().flat_map(golden).collect();
        seeds.iter().for_each(|seed| (decoder.decode)(seed));
        let regressions = FileFailurePersistence::Direct("tests/protocol/fuzz/regressions.txt");
        let config =
            Config { cases: CASES, failure_persistence: Some(Box::new(regressions)), ..Config::default() };
        let ran = TestRunner::new(config).run(&changed(seeds), |message| {
            (decoder.decode)(&message);
            Ok(())
        });
        if let Err(error) = ran {
            panic!("{}: {error}", decoder.name);
        }
    }
}
