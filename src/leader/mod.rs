//! Who is in the fleet. (stand-in)
#![allow(missing_docs, reason = "stand-in")]
use crate::bus::Bus;
use crate::protocol::{Instance, PeerId};
use std::future::Future;
use std::path::PathBuf;
use tokio::sync::watch;
pub struct LeaderSettings {
    pub peer: PeerId,
    pub instance: Instance,
    pub database_url: Option<String>,
    pub state_dir: PathBuf,
    pub max_peers: u32,
}
#[derive(Default)]
pub struct LeaderStatus {
    pub serving: bool,
}
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    #[error("another leader, {peer} (instance {instance})")]
    AnotherLeader { peer: PeerId, instance: Instance },
}
pub async fn run(
    _bus: Bus,
    _s: LeaderSettings,
    status: watch::Sender<LeaderStatus>,
    stop: impl Future<Output = ()>,
) -> Result<(), LeaderError> {
    status.send_replace(LeaderStatus { serving: true });
    stop.await;
    Ok(())
}
