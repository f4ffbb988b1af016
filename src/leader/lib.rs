//! The leader: who is in the fleet.
//!
//! The idea: one task owns the [`roster`] and reacts to a closed set of events — heartbeats,
//! questions, time, the link, the database. Whatever can take time has a task of its own: the
//! database (it writes the latest row of each peer, whenever it can), answers and events (they wait
//! for the link), the calls for signs of life, and the queue that waits for peers that are away.
//!
//! ```text
//!  heartbeats ──┐                      ┌──▶ rows ──▶ registry (SQL)
//!  questions ───┤                      ├──▶ answers
//!  time, link ──┼──▶ serve ─ roster ───┼──▶ events
//!  database ────┘                      └──▶ calls
//! ```
//!
//! Guarantees: no message and no database can stop the leader or delay heartbeats; questions are
//! answered with everyone or with an error, never with a short list; a peer is judged silent only
//! after a round trip to the server has shown that it could have been heard; a second leader does
//! not begin. Limits: there is no failover; events are told at most once, and none before the
//! registry was read for the first time.

mod clock;
pub mod fleet;
mod leadership;
mod publisher;
mod query;
mod queue;
mod rate_limited_log;
pub mod registry;
mod registry_writer;
pub mod roster;
mod serve;
pub mod stale_registry;

use std::future::Future;
use std::path::PathBuf;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;

use peerbus_bus::Bus;
use peerbus_protocol::{Instance, PeerId};

use leadership::CurrentLeader;
use registry::{BadDatabaseUrl, DatabaseUrl};

/// Most peers a leader takes, unless it is told otherwise.
pub const MAX_PEERS: u32 = 20_000;

/// The registry's file in the state directory, where no other place is given.
pub const REGISTRY_FILE: &str = "registry.db";

/// What a leader needs.
#[derive(Debug, Clone)]
pub struct LeaderSettings {
    /// The peer it runs on.
    pub peer: PeerId,
    /// The instance of its daemon.
    pub instance: Instance,
    /// Where the registry is, such as `sqlite:///var/lib/peerbus/registry.db`. None means
    /// [`REGISTRY_FILE`] in the state directory.
    pub database_url: Option<String>,
    /// The daemon's own directory.
    pub state_dir: PathBuf,
    /// Most peers it takes; [`MAX_PEERS`] is a good choice.
    pub max_peers: u32,
    /// The folder with the fleet's keys, where this is the machine that has them.
    pub fleet_keys: Option<PathBuf>,
}

/// Why there is no leader here.
#[derive(Debug, Error)]
pub enum LeaderError {
    /// Another leader answers on this bus.
    #[error("there is already a leader on this bus: {peer} (instance {instance})")]
    AnotherLeader {
        /// Its peer id.
        peer: PeerId,
        /// Its instance.
        instance: Instance,
    },
    /// The setting is no place a registry can be.
    #[error(transparent)]
    Database(#[from] BadDatabaseUrl),
    /// The fleet's keys cannot be used.
    #[error("{0}")]
    Keys(String),
}

/// How the leader is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderStatus {
    /// Whether it answers questions: not before the link is up, and not after it gave way to
    /// another leader.
    pub serving: bool,
    /// Whether the database is there.
    pub registry: RegistryState,
    /// How many peers it knows.
    pub peers: usize,
    /// How many of them are, or were last known to be, on the bus.
    pub online: usize,
    /// Another leader that is heard on this bus.
    pub other_leader: Option<PeerId>,
}

/// Whether the database is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryState {
    /// It was read, and takes what is written.
    Loaded,
    /// It is waited for. If it was read before, the leader answers all the same.
    Waiting {
        /// Why.
        why: String,
    },
}

impl Default for LeaderStatus {
    fn default() -> Self {
        let registry = RegistryState::Waiting { why: "there is no link to the bus yet".to_owned() };
        Self { serving: false, registry, peers: 0, online: 0, other_leader: None }
    }
}

/// Leads until `stop`. Waits for the link, for as long as it takes.
///
/// # Errors
/// When the database is none this program knows, or when another leader answers on this bus. A
/// database that is away is no error: it is waited for.
pub async fn run(
    bus: Bus,
    settings: LeaderSettings,
    status: watch::Sender<LeaderStatus>,
    stop: impl Future<Output = ()>,
) -> Result<(), LeaderError> {
    let place = match &settings.database_url {
        Some(url) => url.parse()?,
        None => DatabaseUrl::sqlite(&settings.state_dir.join(REGISTRY_FILE)),
    };
    let keys = settings.fleet_keys.as_ref().map(|keys| fleet::Keys::open(keys, &bus));
    let keys = keys.transpose().map_err(LeaderError::Keys)?;
    tokio::pin!(stop);
    tokio::select! {
        () = &mut stop => return Ok(()),
        alone = be_the_only_one(&bus, settings.instance) => alone?,
    }
    let mut fleet = JoinSet::new();
    fleet.spawn(queue::keep(bus.clone()));
    if let Some(keys) = keys {
        fleet.spawn(keys.serve(bus.clone()));
    }
    serve::serve(bus, settings, place, status, stop).await;
    Ok(())
}

/// Waits for the link and makes sure that nobody else leads.
async fn be_the_only_one(bus: &Bus, own: Instance) -> Result<(), LeaderError> {
    let mut link = bus.link();
    loop {
        if link.wait_for(|link| link.up).await.is_err() {
            std::future::pending::<()>().await;
        }
        match leadership::holder(bus).await {
            Ok(CurrentLeader::Leader(peer, instance)) if instance != own => {
                return Err(LeaderError::AnotherLeader { peer, instance });
            }
            Ok(CurrentLeader::Stranger) => {
                tracing::warn!(
                    "somebody listens to questions for a leader and gives no answer; leading anyway"
                );
                return Ok(());
            }
            Ok(CurrentLeader::Nobody | CurrentLeader::Leader(..)) => return Ok(()),
            // The link went away again; its next one is waited for.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
