//! What a leader leaves behind on a machine that is a worker now: the rows of its own registry.
//!
//! Only the file in the state directory is looked at. A database that was named by its URL may be
//! the one the fleet's leader uses, and is never touched.

use std::path::Path;

use super::REGISTRY_FILE;
use super::registry::{DatabaseUrl, Registry, RegistryError};
use peerbus_protocol::PeerId;

/// What was found and taken out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StaleRegistry {
    /// Peers that could be read.
    pub peers: Vec<PeerId>,
    /// Rows that were deleted.
    pub deleted: u64,
}

/// Takes a leader's rows out of a worker's state directory.
///
/// # Errors
/// When there is a registry that cannot be read or written; names the file.
pub async fn take(state_dir: &Path) -> Result<StaleRegistry, RegistryError> {
    let file = state_dir.join(REGISTRY_FILE);
    if !file.exists() {
        return Ok(StaleRegistry::default());
    }
    let mut registry = Registry::open(&DatabaseUrl::sqlite(&file)).await?;
    let mut peers: Vec<PeerId> = registry.load().await?.into_iter().map(|row| row.peer_id).collect();
    peers.sort();
    Ok(StaleRegistry { peers, deleted: registry.clear().await? })
}
