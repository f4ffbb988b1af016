//! The one task that owns the roster: it reacts to a closed set of events and never blocks.

mod handlers;
mod inputs;
mod removing;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use peerbus_bus::{Bus, ConnectionState};
use peerbus_protocol::peers::{PeerRow, Presence};
use peerbus_protocol::{PeerId, subjects};

use super::clock::PresenceClock;
use super::leadership::{self, Competitor};
use super::publisher::{Probe, Publisher};
use super::rate_limited_log::RateLimitedLog;
use super::registry::DatabaseUrl;
use super::registry_writer::{self, PendingWrites, WriterEvent};
use super::roster::{Effects, Roster};
use super::{LeaderSettings, LeaderStatus, RegistryState};

use inputs::{Event, Inputs};
use removing::Removing;

/// How often `last_seen` is written for peers that did not change.
const SEEN_PERIOD: Duration = Duration::from_secs(30);

/// Timeout of a round trip to the server. After a timeout, silence means nothing.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// Timeout for the last write at the end.
const LAST_WRITE: Duration = Duration::from_secs(3);

/// Leads until `stop`.
pub(super) async fn serve(
    bus: Bus,
    settings: LeaderSettings,
    place: DatabaseUrl,
    status: watch::Sender<LeaderStatus>,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) {
    let waiting = PendingWrites::default();
    let (inputs, post, reports) = Inputs::open(&bus, &settings).await;
    let mut keeper = JoinSet::new();
    keeper.spawn(registry_writer::keep(place, waiting.clone(), reports));
    let mut leader = Leader::new(bus, settings, status, inputs, post, waiting);
    tracing::info!(leader = %leader.settings.peer, "leading the fleet");
    leader.link_changed();
    leader.show();
    loop {
        tokio::select! {
            () = &mut stop => break,
            event = leader.inputs.next() => leader.handle(event),
        }
    }
    leader.write_seen();
    leader.waiting.finish();
    if tokio::time::timeout(LAST_WRITE, keeper.join_next()).await.is_err() {
        tracing::warn!("stopping before the registry took the last rows");
    }
}

/// The state of the owner task.
struct Leader {
    bus: Bus,
    settings: LeaderSettings,
    status: watch::Sender<LeaderStatus>,
    registry: RegistryState,
    inputs: Inputs,
    post: Publisher,
    waiting: PendingWrites,
    roster: Roster,
    clock: PresenceClock,
    link: ConnectionState,
    probing: bool,
    complaints: RateLimitedLog,
    removing: Removing,
    /// Peers heard since their rows were last written.
    seen: BTreeSet<PeerId>,
    seen_written: Instant,
    born: Instant,
    rival: Option<Competitor>,
    /// A competing leader that does not answer queries, and until when this one does not give way
    /// to it.
    mute_rival: Option<(peerbus_protocol::Instance, Instant)>,
}

impl Leader {
    fn new(
        bus: Bus,
        settings: LeaderSettings,
        status: watch::Sender<LeaderStatus>,
        inputs: Inputs,
        post: Publisher,
        waiting: PendingWrites,
    ) -> Self {
        let most = usize::try_from(settings.max_peers).unwrap_or(usize::MAX);
        Self {
            bus,
            settings,
            status,
            registry: RegistryState::Waiting { why: "it is being opened".to_owned() },
            inputs,
            post,
            waiting,
            roster: Roster::new(most),
            clock: PresenceClock::new(),
            link: ConnectionState { up: false, generation: 0 },
            probing: false,
            complaints: RateLimitedLog::default(),
            removing: Removing::default(),
            seen: BTreeSet::new(),
            seen_written: Instant::now(),
            born: Instant::now(),
            rival: None,
            mute_rival: None,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Beat(message) | Event::Pong(message) => self.beat(&message),
            Event::Document(message) => self.document(&message),
            Event::List(message, place) => {
                let answer = self.handler(|handler| handler.list(&message.payload));
                self.answer(&message, place, answer);
            }
            Event::Get(message, place) => {
                let answer = self.handler(|handler| handler.get(&message.payload));
                self.answer(&message, place, answer);
            }
            Event::Remove(message, place) => self.remove(message, place),
            Event::Link => self.link_changed(),
            Event::Database(report) => self.database(report),
            Event::Tick => self.tick(),
            Event::Probed { generation, sent } => self.probed(generation, sent),
            Event::StandsIn(questions) => self.stand_in(questions),
        }
    }

    /// Publishes and writes the changes.
    fn apply(&mut self, effects: Effects) {
        let at = now_on_the_wall();
        for change in effects.changes {
            tracing::info!(peer = %change.peer, why = change.why, "{}", change.kind.as_str());
            if self.inputs.answers_for_the_fleet() && !self.post.tell(change, at.clone()) {
                self.complaints.add("an event was dropped", 1, &"too many wait");
            }
        }
        for peer in &effects.dirty {
            self.seen.remove(peer);
        }
        self.waiting.put(effects.dirty.iter().filter_map(|peer| self.roster.get(peer)).cloned());
    }

    fn database(&mut self, report: WriterEvent) {
        match report {
            WriterEvent::Loaded(rows) => {
                self.registry = RegistryState::Loaded;
                let effects = self.roster.loaded(rows, self.clock.now());
                self.apply(effects);
                self.call_those_expected();
            }
            WriterEvent::Removed(removals) => self.removed(removals),
            WriterEvent::Away(why) => {
                self.not_removed(&why);
                self.registry = RegistryState::Waiting { why };
            }
            WriterEvent::Back => {
                self.registry = RegistryState::Loaded;
                self.waiting.put(self.roster.after(None).cloned());
            }
        }
        self.show();
    }

    fn link_changed(&mut self) {
        let (before, link) = (self.link, self.inputs.link());
        self.link = link;
        if !link.up {
            self.clock.stop(Instant::now());
        } else if link.generation != before.generation || !before.up {
            self.clock.start(Instant::now());
            self.roster.link_up(self.clock.now());
            self.probing = false;
            self.post.call(Probe::Everyone);
            self.call_those_expected();
        }
    }

    /// Requests a heartbeat from each peer that was online when last heard.
    fn call_those_expected(&self) {
        let is_expected = |row: &&PeerRow| row.is_online && row.state != Presence::Online;
        for row in self.roster.after(None).filter(is_expected) {
            self.post.call(Probe::Peer(row.peer_id.clone()));
        }
    }

    fn tick(&mut self) {
        let dropped = self.roster.take_dropped();
        let most = self.settings.max_peers;
        self.complaints.add(
            "heartbeats of further peers were dropped",
            dropped,
            &format!("there are {most}"),
        );
        if self.seen_written.elapsed() >= SEEN_PERIOD {
            self.write_seen();
        }
        let now = self.clock.now();
        if self.rival.as_ref().is_some_and(|rival| now >= rival.until) {
            self.rival = None;
        }
        if self.clock.runs() && !self.probing && self.roster.is_due(now) {
            self.probe(now);
        }
        self.show();
    }

    fn write_seen(&mut self) {
        self.seen_written = Instant::now();
        if self.roster.is_loaded() {
            let seen = std::mem::take(&mut self.seen);
            self.waiting.put(seen.iter().filter_map(|peer| self.roster.get(peer)).cloned());
        }
    }

    /// Before silence counts, a round trip to the server shows that the connection is alive and
    /// that this process was not stalled: every earlier message has arrived by then. The request
    /// goes to this very peer, and both its answer and the server's "no responders" will do.
    fn probe(&mut self, sent: Duration) {
        self.probing = true;
        let (bus, subject) = (self.bus.clone(), subjects::ping(&self.settings.peer));
        let (generation, background) = (self.link.generation, self.inputs.background());
        tokio::spawn(async move {
            use peerbus_bus::BusError::NoResponders;
            let answer = bus.request(&subject, bytes::Bytes::new(), PROBE_PATIENCE).await;
            let is_alive = matches!(answer, Ok(_) | Err(NoResponders(_)));
            let sent = is_alive.then_some(sent);
            // The send fails only if the leader has ended.
            let _ = background.send(Event::Probed { generation, sent }).await;
        });
    }

    fn probed(&mut self, generation: u64, sent: Option<Duration>) {
        if generation != self.link.generation {
            return;
        }
        self.probing = false;
        let Some(sent) = sent else { return };
        while let Some(message) = self.inputs.waiting_beat() {
            self.beat(&message);
        }
        let effects = self.roster.tick(sent);
        self.apply(effects);
        self.show();
    }

    fn stand_in(&mut self, questions: leadership::QuerySubscription) {
        tracing::warn!("nobody answers for the fleet; leading again");
        self.inputs.answer_for_the_fleet(questions);
        let until = Instant::now() + handlers::MUTE_RIVAL;
        self.mute_rival = self.rival.as_ref().map(|rival| (rival.instance, until));
    }

    /// Publishes the leader's status to its watchers.
    fn show(&self) {
        let next = LeaderStatus {
            serving: self.inputs.answers_for_the_fleet(),
            registry: self.registry.clone(),
            peers: self.roster.len(),
            online: self.roster.after(None).filter(|row| row.is_online).count(),
            other_leader: self.rival.as_ref().map(|rival| rival.peer.clone()),
        };
        self.status.send_if_modified(|shown| {
            let differs = *shown != next;
            *shown = next;
            differs
        });
    }
}

/// The current UTC time in the format of rows and events.
fn now_on_the_wall() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
