//! Sends heartbeats and answers pings.
//!
//! Both are separate tasks that wait only for timers and messages, so no load can silence a peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use super::context::Context;
use super::id_conflict;
use peerbus_bus::{Incoming, Outgoing};
use peerbus_process::host;
use peerbus_protocol::heartbeat::{Heartbeat, INTERVAL_MS, PeerState, TYPE};
use peerbus_protocol::{decode, subjects};

/// How long an address lookup may delay a heartbeat.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(1);

/// Builds the heartbeats of one daemon.
pub(super) struct HeartbeatSource {
    context: Arc<Context>,
    beats: AtomicU64,
    hostname: String,
    /// The route to the bus, looked up at every new connection.
    way: Mutex<Option<host::Link>>,
}

impl HeartbeatSource {
    pub(super) fn new(context: Arc<Context>) -> Self {
        let hostname = host::hostname().unwrap_or_else(|error| {
            tracing::warn!(%error, "reading the hostname");
            context.peer().to_string()
        });
        Self { context, beats: AtomicU64::new(0), hostname, way: Mutex::new(None) }
    }

    /// Determines the local address of the connection to the bus.
    async fn find_way(&self) {
        let (host, port) = self.context.settings.bus.address.first();
        // A slow name service must not silence the peer.
        let found = tokio::time::timeout(LOOK_UP_WITHIN, tokio::net::lookup_host((host, port))).await;
        let remote = found.ok().and_then(Result::ok).and_then(|mut all| all.next());
        *self.way.lock().await = remote.and_then(host::link_for);
    }

    /// The next heartbeat.
    async fn beat(&self, state: PeerState) -> Heartbeat {
        let seq = self.beats.fetch_add(1, Ordering::Relaxed) + 1;
        Heartbeat { state, seq, ..self.look().await }
    }

    /// A heartbeat with the current state.
    pub(super) async fn look(&self) -> Heartbeat {
        let settings = &self.context.settings;
        let way = self.way.lock().await.clone();
        Heartbeat {
            kind: TYPE.to_owned(),
            peer_id: settings.peer.clone(),
            state: PeerState::Up,
            instance: self.context.instance,
            seq: self.beats.load(Ordering::Relaxed),
            interval_ms: INTERVAL_MS,
            hostname: self.hostname.clone(),
            ip_address: way.as_ref().map(|way| way.ip.to_string()),
            mac_address: way.and_then(|way| way.mac),
            role: settings.role,
            daemon_version: peerbus_protocol::VERSION.to_owned(),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            uptime_s: self.context.started.elapsed().as_secs(),
            load: host::load1(),
            jobs: self.context.jobs(),
            tags: settings.tags.clone(),
            audit: self.context.audit.head(),
        }
    }

    /// Publishes one heartbeat, if connected.
    pub(super) async fn say(&self, state: PeerState) {
        let beat = decode::to_json(&self.beat(state).await);
        // Nobody could receive it without a link. The next connection sends one at once.
        let _ = self.context.bus.publish(Outgoing::to(subjects::ALIVE).payload(beat).sealed()).await;
    }
}

/// Sends heartbeats while it is polled: at once, at every new connection, and every interval with 10% jitter, so
/// that ten thousand peers do not send at the same moment.
pub(super) async fn beat(pulse: Arc<HeartbeatSource>) {
    let mut link = pulse.context.bus.link();
    loop {
        let anew = link.borrow_and_update().up;
        if anew {
            pulse.find_way().await;
            pulse.say(PeerState::Up).await;
        }
        let interval = Duration::from_millis(INTERVAL_MS);
        loop {
            let pause = interval.mul_f64(rand::random_range(0.9..1.1));
            tokio::select! {
                Ok(()) = link.changed() => break,
                () = tokio::time::sleep(pause) => pulse.say(PeerState::Up).await,
            }
        }
    }
}

/// Answers pings.
pub(super) async fn answer_pings(pulse: Arc<HeartbeatSource>, mut pings: mpsc::Receiver<Incoming>) {
    while let Some(ping) = pings.recv().await {
        id_conflict::pinged(&pulse.context, &ping.payload);
        let Some(reply) = ping.reply.filter(|reply| subjects::is_inbox(reply)) else { continue };
        let beat = decode::to_json(&pulse.beat(PeerState::Up).await);
        // If the answer is lost, the client retries.
        let _ = pulse.context.bus.publish(Outgoing::to(&reply).payload(beat).sealed()).await;
    }
}
