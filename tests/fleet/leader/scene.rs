//! What the leader's tests are made of: a server, a leader in this process, and somebody else on
//! the bus who speaks as peers, asks, and hears events.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use peerbus::bus::{
    AddressPolicy, Bus, BusError, Credentials, Incoming, Outgoing, ReconnectPolicy, Settings,
};
use peerbus::leader::registry::DatabaseUrl;
use peerbus::leader::{self, LeaderError, LeaderSettings, LeaderStatus, RegistryState};
use peerbus::protocol::heartbeat::{self, Heartbeat, PeerState, Role};
use peerbus::protocol::peers::{EventKind, PeerEvent, PeerPage, PeerRow, Presence};
use peerbus::protocol::reply::{ERROR_CODE_HEADER, ERROR_HEADER, ErrorBody};
use peerbus::protocol::{Instance, PeerId, decode, subjects};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::harness::scratch::Scratch;
use crate::harness::server::{Server, ServerOptions};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// How often quick peers in here beat, in milliseconds.
pub(crate) const QUICK_MS: u64 = 200;

/// A server and a place for databases.
pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) scratch: Scratch,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(ServerOptions::new())
    }

    pub(crate) fn with(options: ServerOptions) -> Self {
        Self { server: options.start(), scratch: Scratch::new() }
    }

    pub(crate) fn bus(&self, name: &str) -> Bus {
        bus(&self.server.url(), name)
    }

    /// Where the registry is, unless the settings say otherwise.
    pub(crate) fn database(&self) -> PathBuf {
        self.scratch.path().join(leader::REGISTRY_FILE)
    }

    pub(crate) fn settings(&self, id: &str, database: &Path) -> LeaderSettings {
        LeaderSettings {
            peer: peer(id),
            instance: Instance::new(),
            database_url: Some(DatabaseUrl::sqlite(database).url()),
            state_dir: self.scratch.path().to_owned(),
            max_peers: leader::MAX_PEERS,
            fleet_keys: None,
        }
    }
}

pub(crate) fn bus(url: &str, name: &str) -> Bus {
    let address = url.parse().expect("an address");
    let settings = Settings {
        address,
        credentials: Credentials::None,
        reach: AddressPolicy::Anywhere,
        name: name.to_owned(),
    };
    Bus::open(settings, ReconnectPolicy::UntilClosed)
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// A leader that runs in this process.
pub(crate) struct Leader {
    pub(crate) instance: Instance,
    pub(crate) status: watch::Receiver<LeaderStatus>,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<Result<(), LeaderError>>,
    pub(crate) bus: Bus,
}

impl Leader {
    pub(crate) fn start(scene: &Scene, id: &str, database: &Path) -> Self {
        Self::start_with(scene.bus(id), scene.settings(id, database))
    }

    pub(crate) fn start_with(bus: Bus, settings: LeaderSettings) -> Self {
        let instance = settings.instance;
        let (status, shown) = watch::channel(LeaderStatus::default());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(leader::run(bus.clone(), settings, status, async {
            let _ = stopped.await;
        }));
        Self { instance, status: shown, stop, task, bus }
    }

    pub(crate) async fn loaded(mut self) -> Self {
        self.until("the registry is loaded", |status| status.registry == RegistryState::Loaded).await;
        self
    }

    pub(crate) async fn until(&mut self, what: &str, holds: impl FnMut(&LeaderStatus) -> bool) {
        let reached = within(what, self.status.wait_for(holds)).await.map(drop);
        assert!(reached.is_ok(), "{what}: the leader ended");
    }

    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        within("the leader stops", self.task).await.expect("no panic").expect("no error");
        self.bus.close().await;
    }
}

/// Somebody else on the bus: speaks as peers, asks, and hears events.
pub(crate) struct Fleet {
    pub(crate) bus: Bus,
    pub(crate) events: mpsc::Receiver<Incoming>,
}

impl Fleet {
    pub(crate) async fn join(scene: &Scene) -> Self {
        let bus = scene.bus("fleet");
        bus.connected(PATIENCE).await.expect("connected");
        let events = bus.subscribe("peers.event.>", None, 65_536).await;
        let fleet = Self { bus, events };
        fleet.barrier().await;
        fleet
    }

    /// What this connection said before has been taken by the server when this returns.
    pub(crate) async fn barrier(&self) {
        let nobody = self.bus.request("nobody.listens", bytes::Bytes::new(), PATIENCE).await;
        assert!(matches!(nobody, Err(BusError::NoResponders(_))), "{nobody:?}");
    }

    pub(crate) async fn beat(&self, beat: &Heartbeat) {
        self.say(subjects::ALIVE, decode::to_json(beat)).await;
    }

    pub(crate) async fn say(&self, subject: &str, payload: impl Into<bytes::Bytes>) {
        self.bus.publish(Outgoing::to(subject).payload(payload)).await.expect("said");
    }

    pub(crate) async fn ask(&self, subject: &str, payload: &str) -> Incoming {
        self.bus.request(subject, payload.to_owned().into(), PATIENCE).await.expect(subject)
    }

    pub(crate) async fn list(&self) -> Vec<PeerRow> {
        let mut rows: Vec<PeerRow> = Vec::new();
        let mut question = "{}".to_owned();
        loop {
            let answer = self.ask(subjects::LIST, &question).await;
            let page: PeerPage = decode::json(&answer.payload).expect("a page");
            rows.extend(page.peers);
            let Some(next) = page.next else { return rows };
            question = format!("{{\"after\":\"{next}\"}}");
        }
    }

    pub(crate) async fn states(&self) -> Vec<(String, Presence)> {
        self.list().await.into_iter().map(|row| (row.peer_id.to_string(), row.state)).collect()
    }

    pub(crate) async fn until_states(&self, wanted: &[(&str, Presence)]) {
        let wanted: Vec<(String, Presence)> =
            wanted.iter().map(|(id, state)| ((*id).to_owned(), *state)).collect();
        let begun = Instant::now();
        loop {
            let states = self.states().await;
            if states == wanted {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{states:?} is not yet {wanted:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn event(&mut self) -> (EventKind, String) {
        let message = within("an event", self.events.recv()).await.expect("the bus lives");
        let event: PeerEvent = decode::json(&message.payload).expect("an event");
        assert_eq!(message.subject, subjects::event(event.event, &event.peer_id));
        (event.event, event.peer_id.to_string())
    }

    pub(crate) fn no_more_events(&mut self) {
        if let Ok(message) = self.events.try_recv() {
            panic!("unexpected: {}", String::from_utf8_lossy(&message.payload));
        }
    }
}

pub(crate) fn peer(id: &str) -> PeerId {
    id.parse().expect("a peer id")
}

pub(crate) fn beat(id: &str, instance: Instance, seq: u64) -> Heartbeat {
    Heartbeat {
        kind: heartbeat::TYPE.to_owned(),
        peer_id: peer(id),
        state: PeerState::Up,
        instance,
        seq,
        interval_ms: heartbeat::INTERVAL_MS,
        hostname: format!("host-{id}"),
        ip_address: Some(format!("10.0.0.{}", id.len())),
        mac_address: None,
        role: Role::Worker,
        daemon_version: "0.1.0".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        uptime_s: 1,
        load: Some(0.5),
        jobs: 0,
        tags: vec!["test".to_owned()],
        audit: None,
    }
}

pub(crate) fn quick(id: &str, instance: Instance, seq: u64) -> Heartbeat {
    Heartbeat { interval_ms: QUICK_MS, ..beat(id, instance, seq) }
}

pub(crate) fn error(answer: &Incoming) -> (String, u64, String) {
    let headers: &peerbus::bus::Headers = &answer.headers;
    let body: ErrorBody = decode::json(&answer.payload).expect("an error's body");
    let word = headers.get(ERROR_HEADER).expect("an error").to_owned();
    assert_eq!(word, body.error);
    (word, headers.number(ERROR_CODE_HEADER).expect("a code"), body.message)
}
