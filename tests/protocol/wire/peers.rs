//! What is said of peers: heartbeats, the registry, the services API, the state file.

use std::collections::BTreeMap;

use peerbus::daemon::policy::PolicyState;
use peerbus::daemon::self_upgrade::{
    self, ProgramCheck, ProgramState, UpgradeOutcome, UpgradePhase, UpgradeRecord,
};
use peerbus::daemon::state::{self, DaemonState, OffTheBus, RunState};
use peerbus::process;
use peerbus::protocol::audit::{Checkpoint, LineHash};
use peerbus::protocol::heartbeat::{self, Heartbeat, PeerState, Role};
use peerbus::protocol::peers::{
    self, EventKind, Found, GET_TYPE, GetAnswer, GetRequest, ListRequest, PeerEvent, PeerPage, PeerRow,
    Presence, REMOVE_TYPE,
};
use peerbus::protocol::service::{self, Counts, ServiceDocument, ServiceQuery};

use crate::wire::{INSTANCE, JOB, golden, golden_by, instance, part, peer, text};

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
        audit: None,
        names: None,
    }
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
        audit: None,
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
    let with_a_log =
        Heartbeat { audit: Some(Checkpoint { seq: 42, hash: LineHash::of(b"line") }), ..leaving };
    golden_by("heartbeat_audit", &with_a_log, Heartbeat::decode);
    golden("ping", &heartbeat::Ping { instance: instance() });
    golden("look", &heartbeat::PingHints { queue: true });
    assert_eq!((heartbeat::TYPE, heartbeat::INTERVAL_MS), ("peerbus.heartbeat.v1", 5_000));
}

#[test]
fn questions_to_the_registry() {
    let list =
        ListRequest { kind: text("peerbus.peers_list.v1"), after: Some(peer("vps")), limit: Some(100) };
    golden_by("peers_list", &list, ListRequest::decode);
    assert_eq!(ListRequest::decode(b""), Ok(ListRequest::default()));
    let get = GetRequest { kind: text("peerbus.peers_get.v1"), peer: "vps.example".to_owned() };
    golden_by("peers_get", &get, |payload| GetRequest::decode(payload, GET_TYPE));
    let remove = GetRequest { kind: text("peerbus.peers_remove.v1"), peer: "vps".to_owned() };
    golden_by("peers_remove", &remove, |payload| GetRequest::decode(payload, REMOVE_TYPE));
    GetRequest::decode(&serde_json::to_vec(&get).unwrap(), REMOVE_TYPE).expect_err("asking is not removing");
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
    let page = PeerPage {
        kind: "peerbus.peers_page.v1".to_owned(),
        peers: vec![row("vps"), bare],
        after: None,
        next: Some(peer("z")),
        leader: peer("lead"),
        leader_instance: instance(),
        age_ms: 15_000,
        left_out: true,
    };
    golden("peers_page", &page);
    golden("peers_page_after", &PeerPage { after: Some(peer("a")), ..page });
    let answer = |found| GetAnswer {
        kind: "peerbus.peer.v1".to_owned(),
        asked: "vps.example".to_owned(),
        found,
        leader: peer("lead"),
        claimed_by: Vec::new(),
        certificate: None,
    };
    let removed = GetAnswer {
        kind: peers::REMOVED_TYPE.to_owned(),
        ..answer(Found::One { peer: Box::new(row("vps")) })
    };
    golden("peer_removed", &removed);
    golden("peer_one", &answer(Found::One { peer: Box::new(row("vps")) }));
    let audit = Some(Checkpoint { seq: 42, hash: LineHash::of(b"line") });
    let heard = PeerRow { audit, ..row("vps") };
    golden("peer_one_audit", &answer(Found::One { peer: Box::new(heard) }));
    let names = Some(vec!["vps.example".to_owned(), "10.0.0.2".to_owned()]);
    let certified = PeerRow { names, ..row("vps") };
    let certificate = Some("eyJ0eXAi.eyJqdGki.c2ln".to_owned());
    let found = Found::One { peer: Box::new(certified) };
    golden("peer_one_certified", &GetAnswer { certificate, ..answer(found) });
    golden("peer_none", &answer(Found::None {}));
    golden("peer_none_claimed", &GetAnswer { claimed_by: vec![peer("a")], ..answer(Found::None {}) });
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
fn the_services_api() {
    let identity = service::ServiceIdentity {
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
    for (question, name) in [
        (ServiceQuery::Ping, "srv_ping"),
        (ServiceQuery::Info, "srv_info"),
        (ServiceQuery::Stats, "srv_stats"),
    ] {
        golden::<ServiceDocument>(name, &service::answer(question, &identity, &counts));
    }
    assert_eq!((service::NAME, service::PING_ALL), ("exec", "$SRV.PING.exec"));
    let all = ["$SRV.*".to_owned(), "$SRV.*.exec".to_owned(), format!("$SRV.*.exec.{INSTANCE}")];
    assert_eq!(service::question_subjects(instance()), all);
    for (subject, wanted) in [
        ("$SRV.PING", Some(ServiceQuery::Ping)),
        ("$SRV.INFO.exec", Some(ServiceQuery::Info)),
        (&format!("$SRV.STATS.exec.{INSTANCE}"), Some(ServiceQuery::Stats)),
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
        state: RunState::Stopped,
        state_reason: "asked to stop".to_owned(),
        since: "2026-11-21T10:11:12Z".to_owned(),
        process: process::ProcessKey {
            pid: 4711,
            start_time: 123_456,
            boot_id: "99999999-8888-4777-8666-555555555555".to_owned(),
        },
        instance: instance(),
        version: "0.1.0".to_owned(),
        peer_id: peer("vps"),
        role: Role::Worker,
        nats: "nats://10.0.0.1:4222".to_owned(),
        run_by: None,
        policy: Some(PolicyState {
            path: "/etc/peerbus/policy.toml".into(),
            rules: Some(3),
            reads: 2,
            digest: text("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
            mistake: text("line 3: rule 1: `task`: this peer's configuration has no task \"x\""),
        }),
        program: Some(ProgramState {
            path: "/usr/local/bin/d".into(),
            next: Some(UpgradeOutcome {
                version: text("0.2.0"),
                is_refused: true,
                why: "it said nothing within 20 s".to_owned(),
            }),
        }),
        off_the_bus: Some(OffTheBus {
            since: "2026-11-21T10:11:13Z".to_owned(),
            why: "connecting to the bus at nats://10.0.0.1:4222: authorization violation".to_owned(),
        }),
    };
    golden("state", &state);
    assert_eq!((state::TYPE, state::FILE), ("peerbus.daemon_state.v1", "state.json"));
    for (state, word) in [
        (RunState::Starting, "starting"),
        (RunState::Ready, "ready"),
        (RunState::Stopping, "stopping"),
        (RunState::Stopped, "stopped"),
        (RunState::Failed, "failed"),
    ] {
        part(&state, &format!("{word:?}"));
    }
}

/// Two versions of the program read and write this one.
#[test]
fn the_record_of_an_upgrade() {
    let file = serde_json::from_str(
        r#"{"device":2049,"inode":131090,"size":13107200,"made_ns":1795255872000000000}"#,
    )
    .unwrap();
    let attempt = UpgradeRecord {
        kind: "peerbus.upgrade.v1".to_owned(),
        id: instance(),
        phase: UpgradePhase::Asked,
        why: String::new(),
        path: "/usr/local/bin/d".into(),
        staged: Some("/usr/local/bin/.d.next-0123456789abcdef".into()),
        kept: None,
        file,
        version: "0.2.0".to_owned(),
        before: "0.1.0".to_owned(),
        at: "2026-11-21T10:11:12Z".to_owned(),
        jobs_until_ms: Some(1_795_255_872_000),
        ready_within_ms: 60_000,
    };
    golden("upgrade", &attempt);
    assert_eq!(self_upgrade::FILE, "upgrade.json");
    for (phase, word) in [
        (UpgradePhase::Asked, "asked"),
        (UpgradePhase::Trying, "trying"),
        (UpgradePhase::Done, "done"),
        (UpgradePhase::Failed, "failed"),
    ] {
        part(&phase, &format!("{word:?}"));
    }
}

#[test]
fn what_a_program_says_of_itself() {
    golden("check", &ProgramCheck { kind: "peerbus.check.v1".to_owned(), version: "0.2.0".to_owned() });
}
