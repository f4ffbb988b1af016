//! The leader on a real server with a real database, as the fleet sees it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use peerbus::bus::{Bus, BusError, Credentials, Headers, Incoming, Outgoing, Persistence, Settings};
use peerbus::leader::registry::{Place, Registry};
use peerbus::leader::{self, LeaderError, LeaderSettings, LeaderStatus, RegistryState};
use peerbus::protocol::heartbeat::{self, Heartbeat, PeerState, Role};
use peerbus::protocol::peers::{EventKind, Found, GetAnswer, Page, PeerEvent, PeerRow, Presence};
use peerbus::protocol::reply::{ERROR_CODE_HEADER, ERROR_HEADER, ErrorBody};
use peerbus::protocol::{Instance, PeerId, decode, service, subjects};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often peers in here beat, in milliseconds.
const QUICK_MS: u64 = 200;

/// A nats-server of this test's own, on a port of its own.
struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        Self::start_with(None, &[])
    }

    fn start_with(port: Option<u16>, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let binary = std::env::var("PEERBUS_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
        let process = Command::new(&binary)
            .args(["-a", "127.0.0.1", "--port", &port.map_or("-1".to_owned(), |port| port.to_string())])
            .arg("--ports_file_dir")
            .arg(folder.path())
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {binary} (PEERBUS_NATS_SERVER names another): {error}"));
        let port = port.unwrap_or_else(|| port_of(folder.path()));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        until_blocking("the server listens", || TcpStream::connect(address).is_ok());
        Self { process, port, folder }
    }

    fn bus(&self, name: &str) -> Bus {
        let address = format!("nats://127.0.0.1:{}", self.port).parse().expect("an address");
        let settings = Settings { address, credentials: Credentials::None, name: name.to_owned() };
        Bus::open(settings, Persistence::UntilClosed)
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("registry.db")
    }

    /// Kills the server and starts another on the same port; the database stays.
    fn replace(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
        let next = Self::start_with(Some(self.port), &[]);
        // The new one brings a folder of its own; the old one keeps the database.
        let mut next = std::mem::ManuallyDrop::new(next);
        std::mem::swap(&mut self.process, &mut next.process);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn port_of(folder: &Path) -> u16 {
    let mut port = None;
    until_blocking("the server says its port", || {
        let files = std::fs::read_dir(folder).expect("a folder").flatten();
        let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        port = texts.filter_map(|text| text.split("127.0.0.1:").nth(1).and_then(digits)).next();
        port.is_some()
    });
    port.expect("a port")
}

fn digits(text: &str) -> Option<u16> {
    text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

fn until_blocking(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// A leader that runs in this process.
struct Leader {
    instance: Instance,
    status: watch::Receiver<LeaderStatus>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), LeaderError>>,
    bus: Bus,
}

impl Leader {
    fn start(server: &Server, id: &str, database: &Path) -> Self {
        Self::start_with(server, id, Place::sqlite(database).url(), leader::MAX_PEERS)
    }

    fn start_with(server: &Server, id: &str, database_url: String, max_peers: u32) -> Self {
        let (bus, instance) = (server.bus(id), Instance::new());
        let settings = LeaderSettings { peer: peer(id), instance, database_url, max_peers };
        let (status, shown) = watch::channel(LeaderStatus::default());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(leader::run(bus.clone(), settings, status, async {
            let _ = stopped.await;
        }));
        Self { instance, status: shown, stop, task, bus }
    }

    async fn loaded(mut self) -> Self {
        self.until("the registry is loaded", |status| status.registry == RegistryState::Loaded).await;
        self
    }

    async fn until(&mut self, what: &str, holds: impl FnMut(&LeaderStatus) -> bool) {
        let reached = within(what, self.status.wait_for(holds)).await.map(drop);
        assert!(reached.is_ok(), "{what}: the leader ended");
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        within("the leader stops", self.task).await.expect("no panic").expect("no error");
        self.bus.close().await;
    }
}

/// Somebody else on the bus: speaks as peers, asks, and hears events.
struct Fleet {
    bus: Bus,
    events: mpsc::Receiver<Incoming>,
}

impl Fleet {
    async fn join(server: &Server) -> Self {
        let bus = server.bus("fleet");
        bus.connected(PATIENCE).await.expect("connected");
        let events = bus.subscribe("peers.event.>", None, 65_536).await;
        let fleet = Self { bus, events };
        fleet.barrier().await;
        fleet
    }

    /// What this connection said before has been taken by the server when this returns.
    async fn barrier(&self) {
        let nobody = self.bus.request("nobody.listens", bytes::Bytes::new(), PATIENCE).await;
        assert!(matches!(nobody, Err(BusError::NoResponders(_))), "{nobody:?}");
    }

    async fn beat(&self, beat: &Heartbeat) {
        self.say(subjects::ALIVE, decode::to_json(beat)).await;
    }

    async fn say(&self, subject: &str, payload: impl Into<bytes::Bytes>) {
        self.bus.publish(Outgoing::to(subject).payload(payload)).await.expect("said");
    }

    async fn ask(&self, subject: &str, payload: &str) -> Incoming {
        self.bus.request(subject, payload.to_owned().into(), PATIENCE).await.expect(subject)
    }

    async fn list(&self) -> Vec<PeerRow> {
        let mut rows: Vec<PeerRow> = Vec::new();
        let mut question = "{}".to_owned();
        loop {
            let answer = self.ask(subjects::LIST, &question).await;
            let page: Page = decode::json(&answer.payload).expect("a page");
            rows.extend(page.peers);
            let Some(next) = page.next else { return rows };
            question = format!("{{\"after\":\"{next}\"}}");
        }
    }

    async fn states(&self) -> Vec<(String, Presence)> {
        self.list().await.into_iter().map(|row| (row.peer_id.to_string(), row.state)).collect()
    }

    async fn until_states(&self, wanted: &[(&str, Presence)]) {
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

    async fn event(&mut self) -> (EventKind, String) {
        let message = within("an event", self.events.recv()).await.expect("the bus lives");
        let event: PeerEvent = decode::json(&message.payload).expect("an event");
        assert_eq!(message.subject, subjects::event(event.event, &event.peer_id));
        (event.event, event.peer_id.to_string())
    }

    fn no_more_events(&mut self) {
        if let Ok(message) = self.events.try_recv() {
            panic!("unexpected: {}", String::from_utf8_lossy(&message.payload));
        }
    }
}

fn peer(id: &str) -> PeerId {
    id.parse().expect("a peer id")
}

fn beat(id: &str, instance: Instance, seq: u64) -> Heartbeat {
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
    }
}

fn quick(id: &str, instance: Instance, seq: u64) -> Heartbeat {
    Heartbeat { interval_ms: QUICK_MS, ..beat(id, instance, seq) }
}

fn error(answer: &Incoming) -> (String, u64, String) {
    let headers: &Headers = &answer.headers;
    let body: ErrorBody = decode::json(&answer.payload).expect("an error's body");
    let word = headers.get(ERROR_HEADER).expect("an error").to_owned();
    assert_eq!(word, body.error);
    (word, headers.number(ERROR_CODE_HEADER).expect("a code"), body.message)
}

#[tokio::test]
async fn heartbeats_make_a_list_and_silence_and_farewells_are_seen() {
    let server = Server::start();
    let mut fleet = Fleet::join(&server).await;
    let leader = Leader::start(&server, "lead", &server.database()).loaded().await;
    let (silent, polite) = (Instance::new(), Instance::new());
    fleet.beat(&quick("silent", silent, 1)).await;
    assert_eq!(fleet.event().await, (EventKind::Joined, "silent".into()));
    fleet.beat(&beat("polite", polite, 1)).await;
    let mut events = vec![fleet.event().await, fleet.event().await];
    events.sort_by_key(|(_, id)| id.clone());
    assert_eq!(events, [(EventKind::Joined, "polite".into()), (EventKind::Offline, "silent".into())]);
    fleet.beat(&Heartbeat { state: PeerState::Leaving, ..beat("polite", polite, 2) }).await;
    assert_eq!(fleet.event().await, (EventKind::Offline, "polite".into()));
    fleet.beat(&beat("silent", silent, 2)).await;
    assert_eq!(fleet.event().await, (EventKind::Online, "silent".into()));
    let rows = fleet.list().await;
    assert_eq!(rows.iter().map(|row| row.is_online).collect::<Vec<_>>(), [false, true]);
    assert_eq!((rows[1].hostname.as_str(), rows[1].instance), ("host-silent", Some(silent)));
    for (name, found) in [("polite", true), ("HOST-Polite", true), ("10.0.0.6", false), ("nobody", false)] {
        let answer = fleet.ask(subjects::GET, &format!("{{\"peer\":\"{name}\"}}")).await;
        let answer: GetAnswer = decode::json(&answer.payload).expect("an answer");
        match answer.found {
            Found::One { peer } => assert!(found && peer.peer_id.as_str() == "polite", "{name}"),
            Found::Many { ids } => assert_eq!((name, ids.len()), ("10.0.0.6", 2)),
            Found::None {} => assert_eq!(name, "nobody"),
        }
    }
    fleet.no_more_events();
    leader.stop().await;
}

#[tokio::test]
async fn two_daemons_of_one_id_are_a_conflict_until_one_is_alone() {
    let server = Server::start();
    let mut fleet = Fleet::join(&server).await;
    let leader = Leader::start(&server, "lead", &server.database()).loaded().await;
    let (one, two) = (Instance::new(), Instance::new());
    fleet.beat(&quick("twin", one, 1)).await;
    fleet.beat(&quick("twin", two, 1)).await;
    assert_eq!(fleet.event().await, (EventKind::Joined, "twin".into()));
    fleet.beat(&quick("twin", one, 2)).await;
    assert_eq!(fleet.event().await, (EventKind::Conflict, "twin".into()));
    fleet.until_states(&[("twin", Presence::Conflict)]).await;
    let bus = fleet.bus.clone();
    let goes_on = tokio::spawn(async move {
        for seq in 3.. {
            tokio::time::sleep(Duration::from_millis(QUICK_MS / 2)).await;
            let _ = bus
                .publish(Outgoing::to(subjects::ALIVE).payload(decode::to_json(&quick("twin", one, seq))))
                .await;
        }
    });
    assert_eq!(fleet.event().await, (EventKind::Online, "twin".into()));
    goes_on.abort();
    assert_eq!(fleet.event().await, (EventKind::Offline, "twin".into()));
    leader.stop().await;
}

#[tokio::test]
async fn garbage_is_refused_or_ignored_and_stops_nobody() {
    let server = Server::start();
    let mut fleet = Fleet::join(&server).await;
    let mut leader = Leader::start(&server, "lead", &server.database()).loaded().await;
    let good = String::from_utf8(decode::to_json(&beat("good", Instance::new(), 1))).expect("text");
    let nested = "[".repeat(1_000_000);
    let garbage: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\x00\xff\xfe".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        nested.clone().into_bytes(),
        format!("{{\"peer_id\":{}", "{\"a\":".repeat(100_000)).into_bytes(),
        good.replace("\"good\"", "\"a.b\"").into_bytes(),
        good.replace("\"good\"", "\">\"").into_bytes(),
        good.replace("\"up\"", &format!("\"{}\"", "u".repeat(900_000))).into_bytes(),
        good.replace("5000", "0").into_bytes(),
        good.replace("5000", "18446744073709551615").into_bytes(),
        good.replace("5000", "-1").into_bytes(),
        good.replace("0.5", "1e999").into_bytes(),
        good.replace("host-good", &"h".repeat(256)).into_bytes(),
        good.replace("heartbeat.v1", "heartbeat.v9").into_bytes(),
        format!("{good}{good}").into_bytes(),
        good[..good.len() / 2].as_bytes().to_vec(),
    ];
    for payload in &garbage {
        for subject in [subjects::ALIVE, subjects::LIST, subjects::GET] {
            // A `peers.list` with nothing in it asks for the first page.
            if subject == subjects::LIST && matches!(payload.as_slice(), b"" | b"{}" | b"[]") {
                continue;
            }
            fleet.say(subject, payload.clone()).await;
            let answer = fleet.bus.request(subject, payload.clone().into(), PATIENCE).await;
            let (word, code, message) = error(&answer.expect("a refusal"));
            assert_eq!((word.as_str(), code), ("bad_request", 400), "{message}");
            assert!(!message.is_empty() && message.len() < 2_000, "{} bytes", message.len());
        }
    }
    // Answers go to inboxes and nowhere else.
    let mut elsewhere = fleet.bus.subscribe("exec.>", None, 16).await;
    fleet.barrier().await;
    for subject in [subjects::LIST, subjects::ALIVE, subjects::GET] {
        fleet.bus.publish(Outgoing::to(subject).reply("exec.bob").payload("x")).await.expect("said");
        fleet
            .bus
            .publish(Outgoing::to(subject).reply("exec.bob").payload("{\"peer\":\"a\"}"))
            .await
            .expect("said");
    }
    fleet.beat(&beat("good", Instance::new(), 1)).await;
    assert_eq!(fleet.event().await, (EventKind::Joined, "good".into()));
    fleet.until_states(&[("good", Presence::Online)]).await;
    leader.until("one peer", |status| status.peers == 1 && status.online == 1).await;
    while let Ok(message) = elsewhere.try_recv() {
        assert_eq!(message.subject, "exec.lead.ping", "only signs of life are asked for");
    }
    leader.stop().await;
}

#[tokio::test]
async fn garbage_peers_cannot_fill_the_registry() {
    let server = Server::start();
    let fleet = Fleet::join(&server).await;
    let url = Place::sqlite(&server.database()).url();
    let mut leader = Leader::start_with(&server, "lead", url, 5).loaded().await;
    for at in 0..100 {
        fleet.beat(&beat(&format!("p{at}"), Instance::new(), 1)).await;
    }
    leader.until("as many as may be", |status| status.peers == 5).await;
    fleet.barrier().await;
    assert_eq!(fleet.list().await.len(), 5);
    leader.stop().await;
}

#[tokio::test]
async fn a_database_that_comes_late_loses_no_heartbeat() {
    let server = Server::start();
    let mut fleet = Fleet::join(&server).await;
    let folder = server.folder.path().join("mounted/later");
    let database = folder.join("registry.db");
    let mut leader = Leader::start(&server, "lead", &database);
    let name = database.display().to_string();
    leader
        .until("the status says why", |status| match &status.registry {
            RegistryState::Waiting { why } => why.contains(&name) && why.contains("No such file"),
            RegistryState::Loaded => false,
        })
        .await;
    let instance = Instance::new();
    fleet.beat(&beat("early", instance, 1)).await;
    leader.until("the beat was heard", |status| status.peers == 1).await;
    for (subject, question) in [(subjects::LIST, ""), (subjects::GET, "{\"peer\":\"early\"}")] {
        let (word, code, message) = error(&fleet.ask(subject, question).await);
        assert_eq!((word.as_str(), code), ("registry_unavailable", 503));
        assert!(message.contains(&name), "{message}");
    }
    fleet.no_more_events();
    std::fs::create_dir_all(&folder).expect("a folder");
    assert_eq!(fleet.event().await, (EventKind::Joined, "early".into()));
    let rows = fleet.list().await;
    assert_eq!((rows.len(), rows[0].instance, rows[0].state), (1, Some(instance), Presence::Online));
    leader.stop().await;
    let stored = Registry::open(&Place::sqlite(&database)).await.expect("open").load().await.expect("rows");
    assert_eq!((stored.len(), stored[0].instance, stored[0].is_online), (1, Some(instance), true));
}

#[tokio::test]
async fn a_locked_database_delays_nobody_and_catches_up() {
    let server = Server::start();
    let mut fleet = Fleet::join(&server).await;
    let mut leader = Leader::start(&server, "lead", &server.database()).loaded().await;
    // The table is taken away, as a full or broken disk would: nothing can be written.
    let hidden = server.folder.path().join("hidden.db");
    std::fs::rename(server.database(), &hidden).expect("moved");
    std::fs::create_dir(server.database()).expect("in its place");
    fleet.beat(&beat("a", Instance::new(), 1)).await;
    assert_eq!(fleet.event().await, (EventKind::Joined, "a".into()));
    fleet.until_states(&[("a", Presence::Online)]).await;
    leader.until("the outage shows", |status| status.registry != RegistryState::Loaded).await;
    fleet.beat(&beat("b", Instance::new(), 1)).await;
    assert_eq!(fleet.event().await, (EventKind::Joined, "b".into()));
    assert_eq!(fleet.list().await.len(), 2);
    std::fs::remove_dir(server.database()).expect("taken away");
    leader.until("the registry is back", |status| status.registry == RegistryState::Loaded).await;
    leader.stop().await;
    let place = Place::sqlite(&server.database());
    let stored = Registry::open(&place).await.expect("open").load().await.expect("rows");
    assert_eq!(stored.len(), 2, "all rows are written, also to a new database");
}

#[tokio::test]
async fn a_restart_of_the_leader_is_no_news() {
    let server = Server::start();
    let mut fleet = Fleet::join(&server).await;
    let leader = Leader::start(&server, "lead", &server.database()).loaded().await;
    let (stays, left) = (Instance::new(), Instance::new());
    fleet.beat(&beat("stays", stays, 1)).await;
    fleet.beat(&beat("left", left, 1)).await;
    fleet.beat(&Heartbeat { state: PeerState::Leaving, ..beat("left", left, 2) }).await;
    for _ in 0..3 {
        fleet.event().await;
    }
    leader.stop().await;
    let mut pings = fleet.bus.subscribe("exec.stays.ping", None, 16).await;
    fleet.barrier().await;
    let leader = Leader::start(&server, "lead", &server.database()).loaded().await;
    fleet.until_states(&[("left", Presence::Unknown), ("stays", Presence::Unknown)]).await;
    assert_eq!(fleet.list().await.iter().map(|row| row.is_online).collect::<Vec<_>>(), [false, true]);
    // It asks who was there for a sign of life, and takes the answer for one.
    let ping = within("a ping", pings.recv()).await.expect("the bus lives");
    let reply = ping.reply.expect("an inbox");
    assert!(subjects::is_inbox(&reply));
    fleet.say(&reply, decode::to_json(&beat("stays", stays, 2))).await;
    fleet.until_states(&[("left", Presence::Unknown), ("stays", Presence::Online)]).await;
    // Until it decides on those that are away, at three intervals of 5 s.
    fleet.until_states(&[("left", Presence::Offline), ("stays", Presence::Online)]).await;
    fleet.no_more_events();
    leader.stop().await;
}

#[tokio::test]
async fn a_new_leader_asks_everyone_and_finds_the_unknown() {
    let server = Server::start();
    let mut fleet = Fleet::join(&server).await;
    let mut all = fleet.bus.subscribe(service::PING_ALL, None, 16).await;
    let mut pings = fleet.bus.subscribe("exec.w1.ping", None, 16).await;
    fleet.barrier().await;
    let leader = Leader::start(&server, "lead", &server.database()).loaded().await;
    let question = within("a question to all", all.recv()).await.expect("the bus lives");
    let (instance, reply) = (Instance::new(), question.reply.expect("an inbox"));
    let identity = service::Identity {
        peer: peer("w1"),
        instance,
        version: "0.1.0".to_owned(),
        started: "2026-01-01T00:00:00Z".to_owned(),
        metadata: [("peer".to_owned(), "w1".to_owned())].into(),
    };
    for garbage in ["", "[]", "{}"] {
        fleet.say(&reply, garbage).await;
    }
    let document = service::answer(service::Question::Ping, &identity, &service::Counts::default());
    fleet.say(&reply, decode::to_json(&document)).await;
    let ping = within("a ping", pings.recv()).await.expect("the bus lives");
    fleet.say(&ping.reply.expect("an inbox"), decode::to_json(&beat("w1", instance, 1))).await;
    assert_eq!(fleet.event().await, (EventKind::Joined, "w1".into()));
    leader.stop().await;
}

#[tokio::test]
async fn a_restart_of_the_broker_is_no_news() {
    let mut server = Server::start();
    let mut fleet = Fleet::join(&server).await;
    let leader = Leader::start(&server, "lead", &server.database()).loaded().await;
    let ids = ["a", "b", "c"];
    let instances = ids.map(|_| Instance::new());
    for (id, instance) in ids.iter().zip(instances) {
        fleet.beat(&quick(id, instance, 1)).await;
        assert_eq!(fleet.event().await, (EventKind::Joined, (*id).into()));
        // From here on they beat slowly enough to be missed by nobody.
        fleet.beat(&beat(id, instance, 2)).await;
    }
    fleet.until_states(&ids.map(|id| (id, Presence::Online))).await;
    let mut link = fleet.bus.link();
    let before = *link.borrow_and_update();
    server.replace();
    within("the link is back", link.wait_for(|link| link.up && link.generation > before.generation))
        .await
        .expect("the bus lives");
    // The leader is back when it answers; it has not decided anything yet.
    let begun = Instant::now();
    while let Err(error) = fleet.bus.request(subjects::LIST, "{}".into(), Duration::from_secs(1)).await {
        eprintln!("XX {error} lead {:?} fleet {:?}", *leader.bus.link().borrow(), *fleet.bus.link().borrow());
        assert!(begun.elapsed() < PATIENCE, "the leader comes back: {error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (id, instance) in ids.iter().zip(instances) {
        fleet.beat(&beat(id, instance, 3)).await;
    }
    fleet.until_states(&ids.map(|id| (id, Presence::Online))).await;
    fleet.no_more_events();
    leader.stop().await;
}

#[tokio::test]
async fn a_second_leader_is_refused() {
    let server = Server::start();
    let first = Leader::start(&server, "first", &server.database()).loaded().await;
    let database = server.folder.path().join("second.db");
    let second = Leader::start(&server, "second", &database);
    let ended = within("the second gives up", second.task).await.expect("no panic");
    match ended {
        Err(LeaderError::AnotherLeader { peer, instance }) => {
            assert_eq!((peer.as_str(), instance), ("first", first.instance));
        }
        other => panic!("{other:?}"),
    }
    assert!(!database.exists(), "a leader that is refused touches nothing");
    // Nor does it begin while the first one waits for its database.
    first.stop().await;
    let waiting = Leader::start(&server, "waiting", &server.folder.path().join("no/registry.db"));
    let fleet = Fleet::join(&server).await;
    while fleet.bus.request(subjects::LIST, "".into(), PATIENCE).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = Leader::start(&server, "second", &database);
    let ended = within("the second gives up", second.task).await.expect("no panic");
    assert!(matches!(ended, Err(LeaderError::AnotherLeader { .. })), "{ended:?}");
    waiting.stop().await;
}

#[tokio::test]
async fn of_two_leaders_the_younger_gives_way_and_stands_in_when_the_other_is_gone() {
    let server = Server::start();
    let fleet = Fleet::join(&server).await;
    let mut leader = Leader::start(&server, "lead", &server.database()).loaded().await;
    let other = Instance::new();
    let rival = |seq, uptime_s| Heartbeat {
        role: Role::Leader,
        uptime_s,
        interval_ms: 60_000,
        ..beat("other", other, seq)
    };
    // A younger one is seen, and nothing else happens.
    let own = Heartbeat { role: Role::Leader, uptime_s: 500, ..beat("lead", leader.instance, 1) };
    fleet.beat(&own).await;
    fleet.beat(&rival(1, 5)).await;
    leader.until("the other is seen", |status| status.other_leader == Some(peer("other"))).await;
    assert_eq!(fleet.list().await.len(), 2);
    // An older one takes over.
    fleet.beat(&rival(2, 5_000)).await;
    let begun = Instant::now();
    let question = || fleet.bus.request(subjects::LIST, "{}".into(), Duration::from_secs(1));
    while !matches!(question().await, Err(BusError::NoResponders(_))) {
        assert!(begun.elapsed() < PATIENCE, "the younger one gives way");
    }
    // It turns out that nobody answers.
    while question().await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "somebody answers again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fleet.beat(&Heartbeat { state: PeerState::Leaving, ..rival(3, 5_000) }).await;
    leader.until("the other is gone", |status| status.other_leader.is_none()).await;
    leader.stop().await;
}

#[tokio::test]
async fn a_thousand_peers_fit_into_small_messages() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("small.conf");
    std::fs::write(&config, "max_payload: 64KB\n").expect("a file");
    let server = Server::start_with(None, &["-c", &config.display().to_string()]);
    let fleet = Fleet::join(&server).await;
    let mut leader = Leader::start(&server, "lead", &server.database()).loaded().await;
    for at in 0..1_000 {
        fleet.beat(&beat(&format!("p{at:04}"), Instance::new(), 1)).await;
    }
    leader.until("all are heard", |status| status.online == 1_000).await;
    let ids: Vec<String> = fleet.list().await.iter().map(|row| row.peer_id.to_string()).collect();
    assert_eq!(ids, (0..1_000).map(|at| format!("p{at:04}")).collect::<Vec<_>>());
    leader.stop().await;
}

#[tokio::test]
async fn a_database_of_an_unknown_kind_is_refused_at_once() {
    let server = Server::start();
    let url = "mysql://peerbus:hunter2@db/peers".to_owned();
    let leader = Leader::start_with(&server, "lead", url, 10);
    let ended = within("it ends", leader.task).await.expect("no panic").expect_err("refused");
    assert!(matches!(ended, LeaderError::Database(_)) && !ended.to_string().contains("hunter2"), "{ended}");
}
