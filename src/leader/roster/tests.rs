//! The rules of presence: single steps, and random sequences.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use peerbus_protocol::Instance;
use peerbus_protocol::heartbeat::{Role, TYPE};

const INTERVAL: Duration = Duration::from_secs(5);
const SEEN: &str = "2026-01-02T03:04:05Z";

pub(crate) fn row(id: &str) -> PeerRow {
    PeerRow { state: Presence::Unknown, ..Peer::new(&beat(id, Instance::new(), 1), Duration::ZERO).row }
}

fn beat(id: &str, instance: Instance, seq: u64) -> Heartbeat {
    Heartbeat {
        kind: TYPE.to_owned(),
        peer_id: id.parse().expect("valid"),
        state: PeerState::Up,
        instance,
        seq,
        interval_ms: 5_000,
        hostname: id.to_owned(),
        ip_address: None,
        mac_address: None,
        role: Role::Worker,
        daemon_version: "0.1.0".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        uptime_s: seq * 5,
        load: None,
        jobs: 0,
        tags: vec![],
        audit: None,
    }
}

fn leaving(id: &str, instance: Instance, seq: u64) -> Heartbeat {
    Heartbeat { state: PeerState::Leaving, ..beat(id, instance, seq) }
}

fn ready() -> Roster {
    let mut roster = Roster::new(100);
    roster.link_up(Duration::ZERO);
    roster.loaded(vec![], Duration::ZERO);
    roster
}

fn kinds(effects: &Effects) -> Vec<EventKind> {
    effects.changes.iter().map(|change| change.kind).collect()
}

fn state(roster: &Roster, id: &str) -> Presence {
    roster.get(&id.parse().expect("valid")).expect("known").state
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_peer_joins_stays_falls_silent_and_comes_back() {
    let (mut roster, instance) = (ready(), Instance::new());
    let effects = roster.beat(&beat("a", instance, 1), seconds(0), SEEN);
    assert_eq!((kinds(&effects), effects.dirty.len()), (vec![EventKind::Joined], 1));
    assert_eq!(roster.beat(&beat("a", instance, 2), seconds(5), SEEN), Effects::default());
    assert_eq!(roster.tick(seconds(19)), Effects::default());
    assert!(!roster.is_due(seconds(19)) && roster.is_due(seconds(20)));
    let effects = roster.tick(seconds(20));
    assert_eq!((kinds(&effects), effects.dirty.len()), (vec![EventKind::Offline], 1));
    assert_eq!(roster.tick(seconds(40)), Effects::default());
    assert_eq!(kinds(&roster.beat(&beat("a", instance, 3), seconds(50), SEEN)), [EventKind::Online]);
    assert!(roster.get(&"a".parse().expect("valid")).expect("known").is_online);
}

#[test]
fn the_peers_own_interval_counts() {
    let mut roster = ready();
    let quick = Heartbeat { interval_ms: 200, ..beat("a", Instance::new(), 1) };
    roster.beat(&quick, seconds(0), SEEN);
    assert!(!roster.is_due(Duration::from_millis(599)));
    assert_eq!(kinds(&roster.tick(Duration::from_millis(600))), [EventKind::Offline]);
}

#[test]
fn a_farewell_counts_at_once_and_a_late_beat_does_not_undo_it() {
    let (mut roster, instance) = (ready(), Instance::new());
    roster.beat(&beat("a", instance, 1), seconds(0), SEEN);
    assert_eq!(kinds(&roster.beat(&leaving("a", instance, 3), seconds(1), SEEN)), [EventKind::Offline]);
    assert_eq!(roster.beat(&beat("a", instance, 2), seconds(1), SEEN), Effects::default());
    assert_eq!(state(&roster, "a"), Presence::Offline);
    assert_eq!(kinds(&roster.beat(&beat("a", Instance::new(), 1), seconds(2), SEEN)), [EventKind::Online]);
}

#[test]
fn a_restart_is_no_conflict_and_the_old_ones_late_farewell_changes_nothing() {
    let (mut roster, old, new) = (ready(), Instance::new(), Instance::new());
    roster.beat(&beat("a", old, 7), seconds(0), SEEN);
    let effects = roster.beat(&beat("a", new, 1), seconds(2), SEEN);
    assert_eq!((kinds(&effects), effects.dirty.len()), (vec![], 1), "the new instance is written");
    assert_eq!(roster.beat(&leaving("a", old, 8), seconds(3), SEEN), Effects::default());
    assert_eq!(roster.beat(&leaving("a", Instance::new(), 8), seconds(3), SEEN), Effects::default());
    assert_eq!(state(&roster, "a"), Presence::Online);
    // Late messages of the old instance do not keep the new one alive.
    assert_eq!(kinds(&roster.tick(seconds(17))), [EventKind::Offline]);
}

#[test]
fn late_and_repeated_beats_of_the_old_one_are_no_conflict() {
    let (mut roster, old, new) = (ready(), Instance::new(), Instance::new());
    roster.beat(&beat("a", old, 7), seconds(0), SEEN);
    roster.beat(&beat("a", new, 1), seconds(1), SEEN);
    for seq in [7, 6, 1] {
        assert_eq!(roster.beat(&beat("a", old, seq), seconds(2), SEEN), Effects::default());
    }
    assert_eq!(state(&roster, "a"), Presence::Online);
}

#[test]
fn two_that_alternate_are_a_conflict_until_one_is_alone() {
    let (mut roster, one, two) = (ready(), Instance::new(), Instance::new());
    roster.beat(&beat("a", one, 1), seconds(0), SEEN);
    roster.beat(&beat("a", two, 1), seconds(2), SEEN);
    let effects = roster.beat(&beat("a", one, 2), seconds(5), SEEN);
    assert_eq!(kinds(&effects), [EventKind::Conflict]);
    assert!(
        effects.changes[0].why.contains(&one.to_string())
            && effects.changes[0].why.contains(&two.to_string())
    );
    for round in 1..10 {
        let at = seconds(5 * round);
        assert_eq!(roster.beat(&beat("a", two, 1 + round), at + seconds(2), SEEN), Effects::default());
        assert_eq!(roster.beat(&beat("a", one, 2 + round), at + seconds(5), SEEN), Effects::default());
        assert_eq!(roster.tick(at + seconds(5)), Effects::default());
    }
    // `two` was last heard at 47 s.
    roster.beat(&beat("a", one, 20), seconds(55), SEEN);
    roster.beat(&beat("a", one, 21), seconds(60), SEEN);
    assert_eq!(roster.tick(seconds(61)), Effects::default());
    assert_eq!(kinds(&roster.tick(seconds(62))), [EventKind::Online]);
    assert_eq!(kinds(&roster.tick(seconds(75))), [EventKind::Offline]);
}

#[test]
fn a_conflict_ends_in_silence_or_farewells() {
    let (mut roster, one, two) = (ready(), Instance::new(), Instance::new());
    for (at, (instance, seq)) in [(one, 1), (two, 1), (one, 2)].into_iter().enumerate() {
        roster.beat(&beat("a", instance, seq), seconds(at as u64), SEEN);
    }
    assert_eq!(roster.beat(&leaving("a", two, 2), seconds(3), SEEN), Effects::default());
    assert_eq!(state(&roster, "a"), Presence::Conflict);
    assert_eq!(kinds(&roster.beat(&leaving("a", one, 3), seconds(4), SEEN)), [EventKind::Offline]);
    assert_eq!(roster.tick(seconds(60)), Effects::default());
}

#[test]
fn a_restart_of_the_leader_makes_no_events_for_what_did_not_change() {
    let mut roster = Roster::new(100);
    let rows = ["on", "off", "gone"].map(|id| PeerRow { is_online: id != "off", ..row(id) });
    roster.link_up(seconds(0));
    assert_eq!(roster.loaded(rows.to_vec(), seconds(0)), Effects::default());
    assert_eq!(state(&roster, "on"), Presence::Unknown);
    let effects = roster.beat(&beat("on", Instance::new(), 9), seconds(3), SEEN);
    assert_eq!(kinds(&effects), []);
    roster.beat(
        &beat("on", roster.get(&"on".parse().expect("valid")).expect("known").instance.expect("heard"), 10),
        seconds(14),
        SEEN,
    );
    assert_eq!(roster.tick(seconds(14)), Effects::default());
    let effects = roster.tick(seconds(15));
    assert_eq!(
        effects.changes.iter().map(|c| (c.kind, c.peer.as_str())).collect::<Vec<_>>(),
        [(EventKind::Offline, "gone")]
    );
    assert_eq!(state(&roster, "off"), Presence::Offline);
}

#[test]
fn a_reconnect_is_a_start_and_makes_no_events_either() {
    let (mut roster, instance) = (ready(), Instance::new());
    roster.beat(&beat("a", instance, 1), seconds(0), SEEN);
    roster.beat(&beat("b", instance, 1), seconds(0), SEEN);
    roster.link_up(seconds(14));
    assert_eq!((state(&roster, "a"), roster.age(seconds(15))), (Presence::Unknown, seconds(1)));
    assert_eq!(roster.beat(&beat("a", instance, 9), seconds(20), SEEN), Effects::default());
    assert_eq!(roster.tick(seconds(28)), Effects::default());
    assert_eq!(kinds(&roster.tick(seconds(29))), [EventKind::Offline]);
    assert_eq!(state(&roster, "a"), Presence::Online);
}

#[test]
fn what_was_heard_before_the_registry_was_read_is_told_then() {
    let mut roster = Roster::new(100);
    roster.link_up(seconds(0));
    for id in ["new", "was-off", "was-on", "left"] {
        let instance = Instance::new();
        assert_eq!(roster.beat(&beat(id, instance, 1), seconds(1), SEEN), Effects::default());
        if id == "left" {
            assert_eq!(roster.beat(&leaving(id, instance, 2), seconds(1), SEEN), Effects::default());
        }
    }
    let rows = ["was-off", "was-on", "left", "away"];
    let rows = rows.map(|id| PeerRow { is_online: id != "was-off", ..row(id) });
    let effects = roster.loaded(rows.to_vec(), seconds(9));
    let told: BTreeMap<&str, EventKind> = effects.changes.iter().map(|c| (c.peer.as_str(), c.kind)).collect();
    let wanted = [("new", EventKind::Joined), ("was-off", EventKind::Online), ("left", EventKind::Offline)];
    assert_eq!(told, wanted.into_iter().collect());
    assert_eq!((effects.changes.len(), effects.dirty.len()), (3, 4));
    assert_eq!(roster.after(None).count(), 5);
    assert_eq!(kinds(&roster.tick(seconds(15))), [], "the clock of those only in the registry starts late");
}

#[test]
fn there_is_no_place_for_more_than_the_most() {
    let mut roster = Roster::new(2);
    roster.loaded(vec![row("a")], seconds(0));
    for id in ["b", "c", "d", "a"] {
        roster.beat(&beat(id, Instance::new(), 1), seconds(0), SEEN);
    }
    assert_eq!((roster.len(), roster.take_dropped(), roster.take_dropped()), (2, 2, 0));
    assert!(roster.has_left_out());
    assert_eq!(state(&roster, "a"), Presence::Online);
    assert_eq!(kinds(&roster.removed(&"a".parse().expect("valid"))), [EventKind::Removed]);
    assert!(!roster.has_left_out(), "there is room again");
    assert_eq!(kinds(&roster.beat(&beat("c", Instance::new(), 1), seconds(1), SEEN)), [EventKind::Joined]);
}

#[test]
fn numbers_alone_are_no_news_and_words_are() {
    let (mut roster, instance) = (ready(), Instance::new());
    roster.beat(&beat("a", instance, 1), seconds(0), SEEN);
    let busy = Heartbeat { jobs: 5, load: Some(2.5), ..beat("a", instance, 2) };
    assert_eq!(roster.beat(&busy, seconds(1), "later"), Effects::default());
    let row = roster.get(&"a".parse().expect("valid")).expect("known");
    assert_eq!((row.jobs, row.load, row.uptime_s, row.last_seen.as_str()), (5, Some(2.5), 10, "later"));
    let tagged = Heartbeat { tags: vec!["home".to_owned()], ..beat("a", instance, 3) };
    assert_eq!(roster.beat(&tagged, seconds(2), SEEN).dirty.len(), 1);
}

/// One step of a random sequence: three instances of two peers, time, and connections.
#[derive(Debug, Clone)]
enum Step {
    Beat { peer: u8, instance: usize, seq: u64, leaving: bool },
    Tick,
    LinkUp,
    Load,
}

fn step() -> impl Strategy<Value = (Step, u64)> {
    let heard = (0..4_u8, 0..3_usize, 0..20_u64, prop::bool::weighted(0.15));
    let step = prop_oneof![
        8 => heard.prop_map(|(peer, instance, seq, leaving)| Step::Beat { peer, instance, seq, leaving }),
        4 => Just(Step::Tick),
        1 => Just(Step::LinkUp),
        1 => Just(Step::Load),
    ];
    (step, 0..9_u64)
}

proptest! {
    /// The events alone give the roster's state, and no event repeats the one before.
    #[test]
    fn events_tell_the_whole_story(steps in proptest::collection::vec(step(), 0..120)) {
        let instances = [Instance::new(), Instance::new(), Instance::new()];
        let (mut roster, mut now, mut is_loaded) = (Roster::new(3), seconds(0), false);
        let mut told: BTreeMap<PeerId, EventKind> = BTreeMap::new();
        for (step, later) in steps {
            now += seconds(later);
            let effects = match step {
                Step::Beat { peer, instance, seq, leaving: leaves } => {
                    let id = format!("p{peer}");
                    let make = if leaves { leaving } else { beat };
                    roster.beat(&make(&id, instances[instance], seq), now, SEEN)
                }
                Step::Tick => roster.tick(now),
                Step::LinkUp => { roster.link_up(now); Effects::default() }
                Step::Load if is_loaded => Effects::default(),
                Step::Load => { is_loaded = true; roster.loaded(vec![], now) }
            };
            prop_assert!(is_loaded || effects == Effects::default());
            for change in effects.changes {
                let before = told.insert(change.peer.clone(), change.kind);
                prop_assert_ne!(before, Some(change.kind), "{}", change.peer);
                prop_assert_eq!(before.is_none(), change.kind == EventKind::Joined);
            }
            prop_assert!(roster.len() <= 3);
            prop_assert!(roster.after(None).is_sorted_by_key(|row| &row.peer_id));
            if is_loaded {
                for row in roster.after(None) {
                    let heard_last = told.get(&row.peer_id);
                    prop_assert_eq!(row.is_online, heard_last != Some(&EventKind::Offline), "{:?}", row);
                    prop_assert_eq!(row.state == Presence::Conflict, heard_last == Some(&EventKind::Conflict));
                }
            }
        }
        // In the end all peers fall silent, with one event each.
        let _ = (roster.tick(now + INTERVAL * 3), roster.tick(now + GRACE * 2));
        prop_assert!(roster.after(None).all(|row| !row.is_online));
        prop_assert!(!roster.is_due(now + GRACE * 9));
    }

    /// Restarts never make a conflict, however many there are, if each instance falls silent after
    /// the next one took over.
    #[test]
    fn restarts_are_never_a_conflict(lives in proptest::collection::vec((1..5_u64, any::<bool>()), 1..20)) {
        let (mut roster, mut now) = (ready(), seconds(0));
        for (beats, says_farewell) in lives {
            let instance = Instance::new();
            for seq in 1..=beats {
                now += seconds(1);
                let effects = roster.beat(&beat("a", instance, seq), now, SEEN);
                prop_assert!(!kinds(&effects).contains(&EventKind::Conflict));
                prop_assert_eq!(state(&roster, "a"), Presence::Online);
            }
            if says_farewell {
                roster.beat(&leaving("a", instance, beats + 1), now, SEEN);
                prop_assert_eq!(state(&roster, "a"), Presence::Offline);
            }
        }
    }
}
