//! A leader's old registry on a machine that is a worker now.
//!
//! This touches only the file in the state directory. A database named by a URL may be in use by
//! the fleet's leader and is never touched.

use std::path::Path;

use super::REGISTRY_FILE;
use super::registry::{DatabaseUrl, Registry, RegistryError};
use peerbus_protocol::PeerId;

/// What was found and deleted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StaleRegistry {
    /// The peers in the registry.
    pub peers: Vec<PeerId>,
    /// The number of deleted rows.
    pub deleted: u64,
}

/// Deletes a leader's rows from a worker's state directory.
///
/// # Errors
/// If the registry cannot be read or written; the error names the file.
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
