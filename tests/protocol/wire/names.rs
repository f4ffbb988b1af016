//! Subjects, headers and their words, as literal strings.

use base64::Engine;
use peerbus::identity::{IdentityFile, Key, MessageSigner, SigningInput};
use peerbus::protocol::frame::{self, FrameKind};
use peerbus::protocol::peers::EventKind;
use peerbus::protocol::subjects::{self, Below, Verb};
use peerbus::protocol::{control, jetstream, queue, reply, signature};

use crate::wire::{JOB, job, part, peer};

/// What is asked of JetStream, which the rights of identities name as well.
#[test]
fn the_queue_as_servers_know_it() {
    let vps = peer("vps");
    for (subject, wanted) in [
        (jetstream::stream_info(), "$JS.API.STREAM.INFO.QUEUE"),
        (jetstream::create_stream(), "$JS.API.STREAM.CREATE.QUEUE"),
        (jetstream::update_stream(), "$JS.API.STREAM.UPDATE.QUEUE"),
        (jetstream::get_message(), "$JS.API.STREAM.MSG.GET.QUEUE"),
        (jetstream::delete_message(), "$JS.API.STREAM.MSG.DELETE.QUEUE"),
        (jetstream::create_consumer(&vps), "$JS.API.CONSUMER.CREATE.QUEUE.vps"),
        (jetstream::consumer_info(&vps), "$JS.API.CONSUMER.INFO.QUEUE.vps"),
        (jetstream::next_message(&vps), "$JS.API.CONSUMER.MSG.NEXT.QUEUE.vps"),
    ] {
        assert_eq!(subject, wanted);
    }
    assert_eq!(
        queue::stream(),
        serde_json::json!({
            "name": "QUEUE", "subjects": ["queue.*.*"], "retention": "workqueue", "storage": "file",
            "discard": "new", "discard_new_per_subject": true, "max_msgs_per_subject": 1,
            "max_msgs": 100_000, "max_bytes": 268_435_456, "max_age": 2_592_000_000_000_000_i64,
            "duplicate_window": 600_000_000_000_i64,
        })
    );
    assert_eq!(
        queue::consumer(&vps)["config"],
        serde_json::json!({
            "name": "vps", "durable_name": "vps", "filter_subject": "queue.vps.*", "deliver_policy": "all",
            "replay_policy": "instant", "ack_policy": "explicit", "ack_wait": 30_000_000_000_i64,
            "max_deliver": -1, "max_ack_pending": 256, "inactive_threshold": 691_200_000_000_000_i64,
        })
    );
}

#[test]
fn the_names_of_subjects_and_headers() {
    let vps = peer("vps");
    assert_eq!(subjects::exec(&vps), "exec.vps");
    assert_eq!(subjects::below_exec(&vps), "exec.vps.>");
    assert_eq!(subjects::ping(&vps), "exec.vps.ping");
    assert_eq!(subjects::parse_below("exec.vps.ping"), Below::Ping);
    assert_eq!(subjects::queue(&vps, job()), format!("queue.vps.{JOB}"));
    assert_eq!(subjects::parse_queue(&format!("queue.vps.{JOB}")), Ok((vps.clone(), job())));
    assert_eq!((subjects::QUEUE_ALL, subjects::queue_of(&vps).as_str()), ("queue.*.*", "queue.vps.*"));
    assert_eq!((queue::STREAM, queue::MESSAGE_ID), ("QUEUE", "Nats-Msg-Id"));
    for (verb, word) in [
        (Verb::Credit, "credit"),
        (Verb::Stdin, "stdin"),
        (Verb::Signal, "signal"),
        (Verb::Resume, "resume"),
        (Verb::Attach, "attach"),
        (Verb::Resize, "resize"),
        (Verb::Rename, "rename"),
        (Verb::Detach, "detach"),
        (Verb::Cancel, "cancel"),
        (Verb::Result, "result"),
    ] {
        let subject = format!("exec.vps.{JOB}.{word}");
        assert_eq!(subjects::job(&vps, job(), verb), subject);
        assert_eq!(subjects::parse_below(&subject), Below::Job(job(), verb));
    }
    assert_eq!(subjects::viewer(&vps, job(), 3), format!("exec.vps.{JOB}.credit.3"));
    assert_eq!(subjects::parse_below(&format!("exec.vps.{JOB}.credit.3")), Below::Viewer(job(), 3));
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
    assert_eq!((frame::OFFSET, control::INSTANCE_HEADER), ("D-Offset", "D-Instance"));
    assert_eq!(reply::ERROR_HEADER, "Nats-Service-Error");
    assert_eq!(reply::ERROR_CODE_HEADER, "Nats-Service-Error-Code");
    assert_eq!((frame::OUTPUT_MAX, frame::ALIVE_EVERY_MS), (65_536, 5_000));
    assert_eq!((subjects::ACCOUNT, subjects::ACCOUNT_CHANGED), ("fleet.account", "fleet.account.changed"));
    assert_eq!((signature::IDENTITY, signature::SIGNATURE), ("D-Identity", "D-Signature"));
    assert_eq!((signature::TIME, signature::CHALLENGE), ("D-Time", "D-Challenge"));
    assert_eq!(signature::REFUSES, "D-Refuses");
    for (kind, word) in [
        (FrameKind::Accepted, "accepted"),
        (FrameKind::Out, "out"),
        (FrameKind::Err, "err"),
        (FrameKind::Want, "want"),
        (FrameKind::Signalled, "signalled"),
        (FrameKind::Resized, "resized"),
        (FrameKind::Screen, "screen"),
        (FrameKind::Asked, "asked"),
        (FrameKind::Sized, "sized"),
        (FrameKind::Alive, "alive"),
        (FrameKind::Gap, "gap"),
        (FrameKind::Result, "result"),
        (FrameKind::End, "end"),
        (FrameKind::Detached, "detached"),
        (FrameKind::Answer, "answer"),
        (FrameKind::Challenge, "challenge"),
    ] {
        assert_eq!((kind.as_str(), word.parse()), (word, Ok(kind)));
    }
}

/// What is signed, to the byte: a member of another version makes and checks the same.
#[test]
fn a_seal() {
    let key = Key::from_seed("SUAAVWRZG6M5FA5VRRGWSCIHKTOJC7EWNIT4JV3FTOIPO4OBFR5WA7X5TE").unwrap();
    let fleet = key.public().clone();
    let identity =
        IdentityFile { token: "token".to_owned(), key: key.clone(), fleet, account: String::new() };
    let header = |name: &str| match name {
        "D-Offset" => Some("3"),
        "D-Time" => Some("1700000000000"),
        "D-Not-Signed" => Some("x"),
        _ => None,
    };
    let parts = SigningInput {
        subject: "exec.w1",
        reply: Some("_INBOX_alice.x.y"),
        headers: &header,
        payload: b"{}",
    };
    let [(identity_header, token), (signature_header, signature)] =
        MessageSigner::of(&identity).headers(&parts);
    assert_eq!((identity_header, token.as_str()), ("D-Identity", "token"));
    assert_eq!(signature_header, "D-Signature");
    // Each part after its length in 8 bytes, big end first; a header that is not there has the length 2^64-1.
    let mut bytes = Vec::new();
    let digest = blake3::hash(b"{}");
    let parts: [Option<&[u8]>; 13] = [
        Some(b"peerbus.seal.v1"),
        Some(b"exec.w1"),
        Some(b"_INBOX_alice.x.y"),
        None,
        None,
        None,
        Some(b"3"),
        None,
        None,
        Some(b"1700000000000"),
        None,
        None,
        Some(digest.as_bytes()),
    ];
    for part in parts {
        bytes.extend(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        bytes.extend(part.unwrap_or_default());
    }
    assert_eq!(base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature).unwrap(), key.sign(&bytes));
}
