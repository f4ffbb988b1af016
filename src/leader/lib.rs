//! The leader: it knows which peers are in the fleet and whether they are online.
//!
//! The idea: one task owns the [`roster`] and reacts to a closed set of events: heartbeats,
//! queries, timers, the connection, the database. Everything that can block has a task of its own:
//! the database writer (it writes the latest row of each peer when it can), answers and events
//! (they wait for the connection), heartbeat requests, and the queue for peers that are offline.
//!
//! ```text
//!  heartbeats ──┐                      ┌──▶ rows ──▶ registry (SQL)
//!  queries ─────┤                      ├──▶ answers
//!  time, link ──┼──▶ serve ─ roster ───┼──▶ events
//!  database ────┘                      └──▶ heartbeat requests
//! ```
//!
//! Guarantees: no message and no database can stop the leader or delay heartbeats. An answer covers
//! the whole fleet or is an error, never a partial list. A peer counts as silent only after a round
//! trip to the server has shown that the leader could have heard it. A second leader does not
//! start. Limits: there is no failover. Events are sent at most once, and none before the registry
//! was read for the first time.

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

/// Default limit on the number of peers.
pub const MAX_PEERS: u32 = 20_000;

/// The registry's file in the state directory, if no database is configured.
pub const REGISTRY_FILE: &str = "registry.db";

/// The leader's settings.
#[derive(Debug, Clone)]
pub struct LeaderSettings {
    /// The peer it runs on.
    pub peer: PeerId,
    /// The instance of its daemon.
    pub instance: Instance,
    /// The registry's URL, such as `sqlite:///var/lib/peerbus/registry.db`. `None` means
    /// [`REGISTRY_FILE`] in the state directory.
    pub database_url: Option<String>,
    /// The daemon's own directory.
    pub state_dir: PathBuf,
    /// Limit on the number of peers; [`MAX_PEERS`] is a good choice.
    pub max_peers: u32,
    /// The folder with the fleet's keys, on the machine that has them.
    pub fleet_keys: Option<PathBuf>,
}

/// Why the leader cannot run.
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
    /// The setting is not a valid database URL.
    #[error(transparent)]
    Database(#[from] BadDatabaseUrl),
    /// The fleet's keys cannot be used.
    #[error("{0}")]
    Keys(String),
}

/// The leader's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderStatus {
    /// Whether it answers queries. False before the connection is up, and after it gave way to
    /// another leader.
    pub serving: bool,
    /// State of the database.
    pub registry: RegistryState,
    /// How many peers it knows.
    pub peers: usize,
    /// How many of them are online, or were when last heard.
    pub online: usize,
    /// Another leader on this bus.
    pub other_leader: Option<PeerId>,
}

/// State of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryState {
    /// The registry was read and can be written.
    Loaded,
    /// The database is unavailable. If the registry was read before, the leader still answers.
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

/// Leads until `stop`. Waits without a limit for the connection.
///
/// # Errors
/// If the database URL is invalid, the fleet's keys cannot be used, or another leader answers on
/// this bus. An unavailable database is not an error: the leader retries.
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

/// Waits for the connection and checks that there is no other leader.
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
            // The connection dropped again; wait for the next one.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
