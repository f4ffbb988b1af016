//! What the leader last said of its peers, kept for the next command line: completion at a TAB must
//! not wait for a network, nor need a leader that is there.
//!
//! One file for each bus, `$XDG_CACHE_HOME/peerbus/peers-….json`, readable by its owner only and
//! replaced whole. It is a memory and never an authority: no command is sent by it. A file that is
//! missing, corrupt, too large or not to be read is no cache; one that cannot be written is not
//! written. Neither is ever said, because nobody asked for a cache.

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

/// Largest file that is read, in bytes. A fleet of 20,000 peers takes about 3 MB.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// One peer, as it was when the list was learned.
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
    /// What the leader knew of its presence.
    pub(super) state: Presence,
    /// Whether it was on the bus.
    pub(super) online: bool,
    /// What leads to it beside its id, where that is only what its certificate says.
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

/// All peers of one bus, as they were at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cache {
    #[serde(rename = "type")]
    kind: String,
    /// The bus, without credentials.
    bus: String,
    /// When the list was learned: UTC.
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

    /// What a file or a pipe holds, where it is the cache of this bus.
    pub(super) fn decode(bus: &NatsAddress, text: &[u8]) -> Option<Self> {
        let cache: Self = serde_json::from_slice(text).ok()?;
        (cache.kind == TYPE && cache.bus == bus.to_string()).then_some(cache)
    }

    /// The same, as it is written.
    pub(super) fn encode(&self) -> Vec<u8> {
        peerbus_protocol::decode::to_json(self)
    }

    /// Whether the list was learned within this time. One from the future was not.
    pub(super) fn is_younger_than(&self, age: SignedDuration) -> bool {
        let old = Timestamp::now().duration_since(self.written_at);
        old >= SignedDuration::ZERO && old < age
    }
}

/// What is remembered of a bus.
pub(super) fn read(bus: &NatsAddress) -> Option<Cache> {
    Cache::decode(bus, &bounded(&directory()?.join(file_name(bus)))?)
}

/// Remembers a whole list of peers; says what is remembered now.
pub(super) fn learn(bus: &NatsAddress, rows: &[PeerRow]) -> Cache {
    let cache = Cache::of(bus, rows);
    keep(&cache, bus);
    cache
}

/// Remembers one peer that was found, where there is a list it belongs to. The list is no younger
/// for that.
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

/// Forgets a peer that was taken out of the registry.
pub(super) fn forget(bus: &NatsAddress, peer: &PeerId) {
    let Some(mut cache) = read(bus) else { return };
    cache.peers.retain(|known| known.id != *peer);
    keep(&cache, bus);
}

/// Where the caches are: none for someone who has no home.
pub(super) fn directory() -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let below_home = || host::home().map(|home| home.join(".cache"));
    Some(absolute("XDG_CACHE_HOME").or_else(below_home)?.join("peerbus"))
}

/// Makes the directory of the caches, for its owner only.
pub(super) fn made_directory() -> Option<PathBuf> {
    let directory = directory()?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).ok()?;
    Some(directory)
}

fn file_name(bus: &NatsAddress) -> String {
    let digest = blake3::hash(bus.to_string().as_bytes()).to_hex();
    format!("peers-{}.json", &digest[..16])
}

/// The content of an ordinary file of a bearable size. A pipe by that name would hold us up.
pub(super) fn bounded(path: &Path) -> Option<Vec<u8>> {
    let facts = fs::metadata(path).ok()?;
    if !facts.is_file() || facts.len() > MAX_BYTES {
        return None;
    }
    let mut text = Vec::new();
    fs::File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Replaces the file whole. A failure changes nothing for anyone.
fn keep(cache: &Cache, bus: &NatsAddress) {
    let _ = write(cache, bus);
}

fn write(cache: &Cache, bus: &NatsAddress) -> Option<()> {
    let directory = made_directory()?;
    // Made with mode 0600.
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
