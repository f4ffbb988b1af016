//! A cache of the leader's list of peers, since completion in a shell must wait neither for the
//! network nor for a leader.
//!
//! There is one file per bus, `$XDG_CACHE_HOME/peerbus/peers-….json`, readable by its owner only
//! and replaced atomically. The cache is only a hint: no command is sent based on it. A missing,
//! corrupt, oversized or unreadable file counts as no cache, and write errors are ignored. None of
//! this is reported, since the user did not ask for it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::settings::variable;
use peerbus_bus::NatsAddress;
use peerbus_process::host;
use peerbus_protocol::PeerId;
use peerbus_protocol::peers::{PeerRow, Presence};

/// The `type` of a cache file.
const TYPE: &str = "peerbus.peer_cache.v1";

/// Maximum size of a file in bytes. A fleet of 20,000 peers takes about 3 MB.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// One peer at the time the list was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CachedPeer {
    /// Its id.
    pub(super) id: PeerId,
    /// The machine's hostname.
    pub(super) hostname: String,
    /// Its address.
    pub(super) address: Option<String>,
    /// Version of its daemon.
    pub(super) version: String,
    /// Its presence according to the leader.
    pub(super) state: Presence,
    /// Whether it was online.
    pub(super) online: bool,
    /// Its names beside the id, if only those in its certificate count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) names: Option<Vec<String>>,
}

impl From<&PeerRow> for CachedPeer {
    fn from(row: &PeerRow) -> Self {
        Self {
            id: row.peer_id.clone(),
            hostname: row.hostname.clone(),
            address: row.ip_address.clone(),
            version: row.daemon_version.clone(),
            state: row.state,
            online: row.is_online,
            names: row.names.clone(),
        }
    }
}

/// All peers of one bus at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cache {
    #[serde(rename = "type")]
    kind: String,
    /// The bus, without credentials.
    bus: String,
    /// When the list was fetched, in UTC.
    pub(super) written_at: Timestamp,
    /// The peers, sorted by id.
    pub(super) peers: Vec<CachedPeer>,
}

impl Cache {
    fn of(bus: &NatsAddress, rows: &[PeerRow]) -> Self {
        Self {
            kind: TYPE.to_owned(),
            bus: bus.to_string(),
            written_at: Timestamp::now(),
            peers: rows.iter().map(CachedPeer::from).collect(),
        }
    }

    /// Decodes a file or a pipe; `None` if it is not the cache of this bus.
    pub(super) fn decode(bus: &NatsAddress, text: &[u8]) -> Option<Self> {
        let cache: Self = serde_json::from_slice(text).ok()?;
        (cache.kind == TYPE && cache.bus == bus.to_string()).then_some(cache)
    }

    /// Encodes the cache.
    pub(super) fn encode(&self) -> Vec<u8> {
        peerbus_protocol::decode::to_json(self)
    }

    /// Whether the list was fetched within this time. A time in the future is invalid.
    pub(super) fn is_younger_than(&self, age: SignedDuration) -> bool {
        let old = Timestamp::now().duration_since(self.written_at);
        old >= SignedDuration::ZERO && old < age
    }
}

/// Reads the cache of a bus.
pub(super) fn read(bus: &NatsAddress) -> Option<Cache> {
    Cache::decode(bus, &bounded(&directory()?.join(file_name(bus)))?)
}

/// Stores a complete list of peers; returns the new cache.
pub(super) fn learn(bus: &NatsAddress, rows: &[PeerRow]) -> Cache {
    let cache = Cache::of(bus, rows);
    keep(&cache, bus);
    cache
}

/// Updates one peer in an existing list. The list keeps its age.
pub(super) fn learn_one(bus: &NatsAddress, row: &PeerRow) {
    let Some(mut cache) = read(bus) else { return };
    let peer = CachedPeer::from(row);
    match cache.peers.binary_search_by(|known| known.id.cmp(&peer.id)) {
        Ok(at) if cache.peers[at] == peer => return,
        Ok(at) => cache.peers[at] = peer,
        Err(at) => cache.peers.insert(at, peer),
    }
    keep(&cache, bus);
}

/// Removes a peer that was removed from the registry.
pub(super) fn forget(bus: &NatsAddress, peer: &PeerId) {
    let Some(mut cache) = read(bus) else { return };
    cache.peers.retain(|known| known.id != *peer);
    keep(&cache, bus);
}

/// The directory of the caches; `None` without a home directory.
pub(super) fn directory() -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let below_home = || host::home().map(|home| home.join(".cache"));
    Some(absolute("XDG_CACHE_HOME").or_else(below_home)?.join("peerbus"))
}

/// Creates the directory of the caches, for its owner only.
pub(super) fn made_directory() -> Option<PathBuf> {
    let directory = directory()?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).ok()?;
    Some(directory)
}

fn file_name(bus: &NatsAddress) -> String {
    let digest = blake3::hash(bus.to_string().as_bytes()).to_hex();
    format!("peers-{}.json", &digest[..16])
}

/// Reads a regular file of limited size. Reading a pipe could block.
pub(super) fn bounded(path: &Path) -> Option<Vec<u8>> {
    let facts = fs::metadata(path).ok()?;
    if !facts.is_file() || facts.len() > MAX_BYTES {
        return None;
    }
    let mut text = Vec::new();
    fs::File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Replaces the file atomically. Errors are ignored.
fn keep(cache: &Cache, bus: &NatsAddress) {
    let _ = write(cache, bus);
}

fn write(cache: &Cache, bus: &NatsAddress) -> Option<()> {
    let directory = made_directory()?;
    // Created with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(&directory).ok()?;
    file.write_all(&cache.encode()).ok()?;
    file.persist(directory.join(file_name(bus))).ok()?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(text: &str) -> NatsAddress {
        text.parse().expect(text)
    }

    fn cache() -> Cache {
        Cache::of(&bus("10.0.0.1"), &[])
    }

    #[test]
    fn a_cache_is_read_for_the_bus_it_is_of_and_for_no_other() {
        let text = cache().encode();
        assert_eq!(Cache::decode(&bus("nats://token@10.0.0.1:4222"), &text), Some(cache_like(&text)));
        assert_eq!(Cache::decode(&bus("10.0.0.2"), &text), None);
        assert_eq!(Cache::decode(&bus("10.0.0.1"), &text[1..]), None);
        assert_eq!(Cache::decode(&bus("10.0.0.1"), b"{}"), None);
    }

    fn cache_like(text: &[u8]) -> Cache {
        serde_json::from_slice(text).expect("a cache")
    }

    #[test]
    fn a_list_from_the_future_is_not_young() {
        let limit = SignedDuration::from_secs(30);
        let at = |written_at| Cache { written_at, ..cache() };
        let now = Timestamp::now();
        assert!(at(now).is_younger_than(limit));
        assert!(!at(now - SignedDuration::from_secs(31)).is_younger_than(limit));
        assert!(!at(now + SignedDuration::from_secs(3600)).is_younger_than(limit));
    }

    #[test]
    fn each_bus_has_a_file_of_its_own_whoever_asks() {
        assert_ne!(file_name(&bus("10.0.0.1")), file_name(&bus("10.0.0.2")));
        assert_eq!(file_name(&bus("10.0.0.1")), file_name(&bus("nats://me:secret@10.0.0.1:4222")));
    }
}
