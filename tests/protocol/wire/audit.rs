//! The audit log: its lines, and how they are asked for.

use peerbus::protocol::Ending;
use peerbus::protocol::audit::{
    AuditDecision, AuditEntry, AuditEvent, AuditPage, AuditQuery, AuditedControl, AuditedOutcome,
    AuditedRequest, Checkpoint, Cursor, Example, LineHash, RejectSummary,
};
use peerbus::protocol::ending::Refusal;
use peerbus::protocol::identity::Standing;

use crate::wire::{INSTANCE, golden, golden_by, instance, job, peer, text};

fn at() -> String {
    "2026-11-21T10:11:12.345Z".to_owned()
}

fn request() -> AuditedRequest {
    AuditedRequest {
        job: job(),
        principal: Some("alice".parse().unwrap()),
        standing: Some("operator".parse().unwrap()),
        from: text("alice@desk"),
        caller: "_INBOX_alice.x.1".to_owned(),
        command: "git pull".to_owned(),
        command_blake3: None,
        env: vec!["LANG".to_owned()],
        env_left_out: 0,
        directory: text("/opt/app"),
        user: text("root"),
        decision: AuditDecision::Allowed,
        rule: text("operators may pull"),
    }
}

fn bare() -> AuditedRequest {
    AuditedRequest {
        principal: None,
        standing: None,
        from: None,
        command_blake3: text("digest"),
        env: Vec::new(),
        env_left_out: 3,
        directory: None,
        user: None,
        decision: AuditDecision::Refused,
        rule: None,
        ..request()
    }
}

fn flood() -> RejectSummary {
    let example = Example { caller: None, why: "this is not JSON".to_owned() };
    RejectSummary { principal: None, count: 3_000, first: at(), last: at(), examples: vec![example] }
}

#[track_caller]
fn line(name: &str, event: AuditEvent) {
    let entry = AuditEntry { seq: 42, prev: LineHash::of(b"the line before"), at: at(), event };
    golden(name, &entry);
}

#[test]
fn lines() {
    let unknown = Ending::Unknown { why: "its daemon died".to_owned() };
    let refused = Ending::Refused { why: Refusal::NoDirectory, message: "no directory is named".to_owned() };
    let whole = AuditedOutcome {
        ending: Ending::Exited { code: 0 },
        out: Some(12),
        err: Some(0),
        duration_ms: 345,
        killed: 0,
        left_running: 1,
    };
    let unsure = AuditedOutcome { ending: unknown, out: None, err: None, ..whole.clone() };
    line("audit_line_file", AuditEvent::File { peer: peer("vps"), oldest: 7 });
    let (version, user) = ("0.1.0".to_owned(), "root".to_owned());
    line("audit_line_started", AuditEvent::Started { instance: instance(), version, user });
    line("audit_line_stopped", AuditEvent::Stopped { instance: instance() });
    line("audit_line_begun", AuditEvent::Begun(request()));
    line("audit_line_ended", AuditEvent::Ended { request: request(), outcome: whole });
    line("audit_line_ended_unknown", AuditEvent::Ended { request: bare(), outcome: unsure });
    line("audit_line_refused", AuditEvent::Refused { request: bare(), ending: refused });
    let steered = AuditedControl {
        job: job(),
        principal: Some("bob".parse().unwrap()),
        standing: Some(Standing::Operator),
        owner: Some("alice".parse().unwrap()),
        caller: "_INBOX_bob.x.1".to_owned(),
        word: "attach".to_owned(),
        detail: text("write"),
    };
    line("audit_line_steered", AuditEvent::Steered(steered.clone()));
    let why = "bob reads it and does not write to it".to_owned();
    line("audit_line_steer_refused", AuditEvent::SteerRefused { control: steered, why });
    line(
        "audit_line_many_steered",
        AuditEvent::ManySteered(RejectSummary { principal: Some("bob".parse().unwrap()), ..flood() }),
    );
    line("audit_line_malformed", AuditEvent::Malformed(flood()));
    line("audit_line_many_refused", AuditEvent::ManyRefused(flood()));
    line("audit_line_healed", AuditEvent::Healed { bytes: 19, blake3: "digest".to_owned() });
    line("audit_line_damaged", AuditEvent::Damaged { what: "the log ends before line 41".to_owned() });
    line(
        "audit_line_gap",
        AuditEvent::Gap { lost: 2, first: at(), last: at(), why: "No space left".to_owned() },
    );
}

/// What a later version writes down is a line to this one.
#[test]
fn a_line_of_a_later_version() {
    let hash = LineHash::of(b"the line before");
    let later =
        format!(r#"{{"seq":1,"prev":"{hash}","at":"{}","event":"later","instance":"{INSTANCE}"}}"#, at());
    let entry: AuditEntry = serde_json::from_str(&later).unwrap();
    assert_eq!(entry.event, AuditEvent::Other);
}

#[test]
fn questions_and_pages() {
    let cursor = Cursor { file: 7, offset: 4_096 };
    let query = AuditQuery {
        kind: text("peerbus.audit_query.v1"),
        since: Some(at()),
        last: Some(100),
        cursor: Some(cursor),
        limit: Some(10),
    };
    golden_by("audit_query", &query, AuditQuery::decode);
    assert_eq!(AuditQuery::decode(b""), Ok(AuditQuery::default()));
    let page = AuditPage {
        kind: "peerbus.audit_page.v1".to_owned(),
        peer_id: peer("vps"),
        instance: instance(),
        lines: vec![r#"{"seq":7}"#.to_owned()],
        next: Some(cursor),
        head: Some(Checkpoint { seq: 42, hash: LineHash::of(b"line") }),
        skipped: true,
    };
    golden_by("audit_page", &page, AuditPage::decode);
    let last = AuditPage { lines: Vec::new(), next: None, head: None, skipped: false, ..page };
    golden_by("audit_page_last", &last, AuditPage::decode);
}
