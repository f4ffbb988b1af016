//! Subjects, headers and their words, as literal strings.

use peerbus::protocol::frame::{self, FrameKind};
use peerbus::protocol::peers::EventKind;
use peerbus::protocol::subjects::{self, Below, Verb};
use peerbus::protocol::{reply, steer};

use crate::{JOB, job, part, peer};

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
