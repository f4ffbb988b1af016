//! The state of every peer: the rules of presence as pure code, with the clock as an argument.
//!
//! The idea: each event that concerns a peer is a call with the time of the event, and the call
//! returns what changed. The clock is the time since the leader started. It is paused while the
//! leader itself is disconnected, so silence only counts while the leader can hear.
//!
//!
//! ```text
//!            heard                    an older instance is heard after a newer one
//! Unknown ───────────▶ Online ◀──────────────────────────────────────────▶ Conflict
//!    │                 │    ▲           one instance, alone for 3 intervals     │
//!    │ 3 intervals     │    │ heard                                            │
//!    └───────▶ Offline ◀────┘ ◀──────────── all silent for 3 intervals, or left ─┘
//! ```
//! Guarantees: an unchanged state makes no event, so a restart of the leader or of the broker makes
//! none. A restarted daemon is not a conflict. Late messages of a superseded instance change
//! nothing. The number of peers is bounded, whatever is received. Limits: before [`Roster::loaded`]
//! there are no events at all, since the leader does not know yet which peers are new.

mod instances;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use peerbus_protocol::PeerId;
use peerbus_protocol::audit::Checkpoint;
use peerbus_protocol::heartbeat::{self, Heartbeat, PeerState};
use peerbus_protocol::peers::{EventKind, PeerRow, Presence};

use instances::{Heard, Instances, PATIENCE};

/// How long a peer may be silent after the leader started to listen, if the peer's own interval is
/// unknown.
pub const GRACE: Duration = Duration::from_millis(heartbeat::INTERVAL_MS * PATIENCE as u64);

/// One change of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The kind of change.
    pub kind: EventKind,
    /// The peer.
    pub peer: PeerId,
    /// The reason, for people.
    pub why: String,
}

/// The effects of a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The events to publish.
    pub changes: Vec<Change>,
    /// The peers whose rows must be written now.
    pub dirty: Vec<PeerId>,
}

impl Effects {
    fn change(&mut self, kind: EventKind, peer: &PeerId, why: impl Into<String>) {
        self.changes.push(Change { kind, peer: peer.clone(), why: why.into() });
    }
}

/// All peers the leader knows.
#[derive(Debug)]
pub struct Roster {
    peers: BTreeMap<PeerId, Peer>,
    most: usize,
    loaded: bool,
    listening_since: Duration,
    dropped: u64,
    /// Whether a peer was dropped for lack of room since the last removal.
    left_out: bool,
}

#[derive(Debug)]
struct Peer {
    row: PeerRow,
    voices: Instances,
    /// While the state is unknown: when the peer counts as offline unless it is heard.
    decided_at: Duration,
    /// The certificate of its machine, as last received.
    certificate: Option<String>,
}

impl Roster {
    /// An empty roster that listens since the clock's zero and takes at most `most` peers.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let peers = BTreeMap::new();
        Self { peers, most, loaded: false, listening_since: Duration::ZERO, dropped: 0, left_out: false }
    }

    /// Handles a heartbeat; `seen` is the wall clock time for rows.
    pub fn beat(&mut self, beat: &Heartbeat, now: Duration, seen: &str) -> Effects {
        let mut effects = Effects::default();
        let id = &beat.peer_id;
        let joins = !self.peers.contains_key(id);
        if joins && self.peers.len() >= self.most {
            self.dropped += 1;
            self.left_out = true;
            return effects;
        }
        let peer = self.peers.entry(id.clone()).or_insert_with(|| Peer::new(beat, now));
        if joins {
            effects.change(EventKind::Joined, id, "heard for the first time");
        }
        let written = peer.hear(beat, now, seen, &mut effects);
        if written || joins {
            effects.dirty.push(id.clone());
        }
        self.told(effects)
    }

    /// Records the certificate that signed a peer's message, and the names in it.
    pub fn certified(&mut self, peer: &PeerId, names: Vec<String>, certificate: &str) {
        let Some(peer) = self.peers.get_mut(peer) else { return };
        peer.row.names = Some(names);
        if peer.certificate.as_deref() != Some(certificate) {
            peer.certificate = Some(certificate.to_owned());
        }
    }

    /// The certificate a peer used last.
    #[must_use]
    pub fn certificate(&self, peer: &PeerId) -> Option<&str> {
        self.peers.get(peer)?.certificate.as_deref()
    }

    /// Advances the time. The caller must have handled every message sent until `now`.
    pub fn tick(&mut self, now: Duration) -> Effects {
        let mut effects = Effects::default();
        for (id, peer) in &mut self.peers {
            if peer.decide(now, &mut effects) {
                effects.dirty.push(id.clone());
            }
        }
        self.told(effects)
    }

    /// Whether a [`Roster::tick`] at `now` would change anything.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        self.peers.values().any(|peer| peer.verdict(now).is_some())
    }

    /// Takes the rows from the first read of the registry. Heartbeats received before are newer
    /// than its rows.
    pub fn loaded(&mut self, rows: Vec<PeerRow>, now: Duration) -> Effects {
        self.loaded = true;
        let mut effects = Effects::default();
        let mut before: BTreeMap<PeerId, PeerRow> =
            rows.into_iter().map(|row| (row.peer_id.clone(), row)).collect();
        for (id, peer) in &self.peers {
            peer.compare(before.remove(id).as_ref(), &mut effects);
            effects.dirty.push(id.clone());
        }
        for (id, mut row) in before {
            row.state = Presence::Unknown;
            let peer = Peer { row, voices: Instances::default(), decided_at: now + GRACE, certificate: None };
            self.peers.insert(id, peer);
        }
        effects
    }

    /// Handles a new connection: the silence of every peer counts from now on.
    pub fn link_up(&mut self, now: Duration) {
        self.listening_since = now;
        for peer in self.peers.values_mut() {
            peer.voices.begin_anew(now);
            peer.decided_at = now + peer.voices.patience().unwrap_or(GRACE);
            if peer.row.state != Presence::Conflict {
                peer.row.state = Presence::Unknown;
            }
        }
    }

    /// Removes a peer. It joins again with its next heartbeat.
    pub fn removed(&mut self, peer: &PeerId) -> Effects {
        let mut effects = Effects::default();
        if self.peers.remove(peer).is_some() {
            // There is room again for a peer that was dropped.
            self.left_out = false;
            effects.change(EventKind::Removed, peer, "removed from the registry");
        }
        self.told(effects)
    }

    /// The row of one peer.
    #[must_use]
    pub fn get(&self, peer: &PeerId) -> Option<&PeerRow> {
        self.peers.get(peer).map(|peer| &peer.row)
    }

    /// All rows with an id greater than `after`, sorted by id.
    pub fn after<'a>(&'a self, after: Option<&'a PeerId>) -> impl Iterator<Item = &'a PeerRow> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.peers.range::<PeerId, _>((from, Bound::Unbounded)).map(|(_, peer)| &peer.row)
    }

    /// The number of peers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether heartbeats of other peers were dropped because the roster is full.
    #[must_use]
    pub fn has_left_out(&self) -> bool {
        self.left_out
    }

    /// Whether there is no peer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Whether the registry was read, so that the roster is complete.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// How long the leader has listened without interruption.
    #[must_use]
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.listening_since)
    }

    /// The number of heartbeats dropped since the last call because the roster is full.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Suppresses events and writes until the registry was read: before, the leader does not know
    /// which peers are new.
    fn told(&self, effects: Effects) -> Effects {
        if self.loaded { effects } else { Effects::default() }
    }
}

impl Peer {
    /// A new peer, before its first heartbeat is handled.
    fn new(beat: &Heartbeat, now: Duration) -> Self {
        let row = PeerRow {
            peer_id: beat.peer_id.clone(),
            ip_address: None,
            mac_address: None,
            hostname: String::new(),
            last_seen: String::new(),
            is_online: true,
            daemon_version: String::new(),
            state: Presence::Online,
            role: beat.role,
            instance: None,
            os: String::new(),
            arch: String::new(),
            jobs: 0,
            load: None,
            uptime_s: 0,
            tags: Vec::new(),
            audit: None,
            names: None,
        };
        Self { row, voices: Instances::default(), decided_at: now, certificate: None }
    }

    /// Handles a heartbeat; true if the row must be written now.
    fn hear(&mut self, beat: &Heartbeat, now: Duration, seen: &str, effects: &mut Effects) -> bool {
        if beat.state == PeerState::Leaving && self.leaves_late(beat) {
            return false;
        }
        let heard = self.voices.hear(beat, now);
        if heard == Heard::Stale {
            return false;
        }
        seen.clone_into(&mut self.row.last_seen);
        let differs = heard != Heard::Again && self.describe(beat);
        let changed = match heard {
            Heard::Stale => false,
            Heard::Left => self.left(effects),
            Heard::Rival => self.enter(Presence::Conflict, effects, self.voices.rivalry()),
            Heard::New | Heard::Again => self.present(now, effects),
        };
        // During a conflict two descriptions alternate, and neither is worth a write.
        changed || (differs && self.row.state != Presence::Conflict)
    }

    /// Whether this is the farewell of a superseded instance.
    fn leaves_late(&self, beat: &Heartbeat) -> bool {
        !self.voices.knows(beat.instance)
            && (self.voices.any() || self.row.instance.is_some_and(|instance| instance != beat.instance))
    }

    fn left(&mut self, effects: &mut Effects) -> bool {
        !self.voices.any() && self.enter(Presence::Offline, effects, "it said that it was leaving".to_owned())
    }

    fn present(&mut self, now: Duration, effects: &mut Effects) -> bool {
        if self.row.state == Presence::Conflict && self.voices.heard(now) > 1 {
            return false;
        }
        self.enter(Presence::Online, effects, "heard again".to_owned())
    }

    /// Copies the peer's description; true if any stored part of it is new.
    fn describe(&mut self, beat: &Heartbeat) -> bool {
        let mut next = PeerRow {
            peer_id: beat.peer_id.clone(),
            ip_address: beat.ip_address.clone(),
            mac_address: beat.mac_address.clone(),
            hostname: beat.hostname.clone(),
            last_seen: self.row.last_seen.clone(),
            is_online: self.row.is_online,
            daemon_version: beat.daemon_version.clone(),
            state: self.row.state,
            role: beat.role,
            instance: Some(beat.instance),
            os: beat.os.clone(),
            arch: beat.arch.clone(),
            jobs: self.row.jobs,
            load: self.row.load,
            uptime_s: self.row.uptime_s,
            tags: beat.tags.clone(),
            audit: self.row.audit.clone(),
            names: self.row.names.clone(),
        };
        let differs = next != self.row;
        next.audit = furthest(next.audit, beat.audit.as_ref());
        (next.jobs, next.load, next.uptime_s) = (beat.jobs, beat.load, beat.uptime_s);
        self.row = next;
        differs
    }

    /// Applies the effect of silence; true if the row must be written.
    fn decide(&mut self, now: Duration, effects: &mut Effects) -> bool {
        let Some(state) = self.verdict(now) else { return false };
        let why = match state {
            Presence::Offline => "not heard for three intervals",
            _ => "only one instance was heard for three intervals",
        };
        self.enter(state, effects, why.to_owned())
    }

    /// The new state that silence until `now` leads to, if any.
    fn verdict(&self, now: Duration) -> Option<Presence> {
        let nobody_here = !self.voices.any_at(now);
        match self.row.state {
            Presence::Online | Presence::Conflict if nobody_here => Some(Presence::Offline),
            Presence::Conflict if self.voices.heard(now) == 1 => Some(Presence::Online),
            Presence::Unknown if now >= self.decided_at => Some(Presence::Offline),
            _ => None,
        }
    }

    /// Changes the state; true if the stored row changes.
    fn enter(&mut self, state: Presence, effects: &mut Effects, why: String) -> bool {
        let (old, was_online) = (self.row.state, self.row.is_online);
        self.row.state = state;
        self.row.is_online = state != Presence::Offline;
        let id = &self.row.peer_id;
        match state {
            Presence::Conflict if old != Presence::Conflict => effects.change(EventKind::Conflict, id, why),
            Presence::Online if !was_online || old == Presence::Conflict => {
                effects.change(EventKind::Online, id, why);
            }
            Presence::Offline if was_online => effects.change(EventKind::Offline, id, why),
            _ => {}
        }
        was_online != self.row.is_online
    }

    /// Adds the differences between the registry's row and the heartbeats received before it was
    /// read.
    fn compare(&self, before: Option<&PeerRow>, effects: &mut Effects) {
        let id = &self.row.peer_id;
        let was_online = before.is_none_or(|row| row.is_online);
        if before.is_none() {
            effects.change(EventKind::Joined, id, "heard for the first time");
        }
        match (self.row.state, self.row.is_online) {
            (Presence::Conflict, _) => effects.change(EventKind::Conflict, id, self.voices.rivalry()),
            (_, true) if !was_online => effects.change(EventKind::Online, id, "heard again"),
            (_, false) if was_online => effects.change(EventKind::Offline, id, "heard no more"),
            _ => {}
        }
    }
}

/// The checkpoint with the highest sequence number. An audit log that goes back was truncated or
/// replaced, and keeping the highest makes that visible.
fn furthest(known: Option<Checkpoint>, said: Option<&Checkpoint>) -> Option<Checkpoint> {
    match (known, said) {
        (Some(known), Some(said)) if said.seq > known.seq => Some(said.clone()),
        (None, said) => said.cloned(),
        (known, _) => known,
    }
}
