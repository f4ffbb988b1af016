//! Completes peers from the cache.
//!
//! Ids come first. Hostnames and addresses follow only if no id matches the typed prefix. An old
//! cache is used as it is while a new one is fetched for the next TAB.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::time::Duration;

use clap::builder::StyledStr;
use clap_complete::engine::CompletionCandidate;
use jiff::SignedDuration;

use super::refresh;
use crate::args::Common;
use crate::cache::{self, Cache, CachedPeer};
use crate::settings::Settings;
use peerbus_bus::NatsAddress;
use peerbus_protocol::peers::Presence;

/// An older list is fetched again.
const FRESH: SignedDuration = SignedDuration::from_secs(30);

/// How long a TAB waits for the first list: too short to notice.
const PATIENCE: Duration = Duration::from_millis(40);

/// The peers with a name that starts with the typed text.
pub(super) fn candidates(common: &Common, typed: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(typed), Some(bus)) = (typed.to_str(), bus(common)) else { return Vec::new() };
    remembered(common, &bus).map(|cache| matching(&cache.peers, typed)).unwrap_or_default()
}

fn bus(common: &Common) -> Option<NatsAddress> {
    Settings::read(common).ok()?.address().ok()
}

fn remembered(common: &Common, bus: &NatsAddress) -> Option<Cache> {
    match cache::read(bus) {
        Some(cache) if cache.is_younger_than(FRESH) => Some(cache),
        Some(old) => {
            refresh::begin(common);
            Some(old)
        }
        None => refresh::begin_and_wait(common, bus, PATIENCE),
    }
}

fn matching(peers: &[CachedPeer], typed: &str) -> Vec<CompletionCandidate> {
    let ids = peers.iter().filter(|peer| peer.id.as_str().starts_with(typed));
    let ids: Vec<CompletionCandidate> = ids
        .map(|peer| {
            let facts =
                [word(peer.state), peer.address.as_deref().unwrap_or("-"), &peer.hostname, &peer.version];
            candidate(peer.id.as_str(), &facts)
        })
        .collect();
    if typed.is_empty() || !ids.is_empty() {
        return ids;
    }
    let mut others: BTreeMap<&str, Vec<&CachedPeer>> = BTreeMap::new();
    for (name, peer) in peers.iter().flat_map(other_names).filter(|(name, _)| name.starts_with(typed)) {
        others.entry(name).or_default().push(peer);
    }
    // A name shared by several peers is ambiguous.
    let meant = others.into_iter().filter(|(_, peers)| peers.len() == 1);
    meant.map(|(name, peers)| candidate(name, &[peers[0].id.as_str(), word(peers[0].state)])).collect()
}

fn other_names(peer: &CachedPeer) -> impl Iterator<Item = (&str, &CachedPeer)> {
    let said = || [Some(peer.hostname.as_str()), peer.address.as_deref()].into_iter().flatten().collect();
    let names: Vec<&str> =
        peer.names.as_ref().map_or_else(said, |names| names.iter().map(String::as_str).collect());
    let is_plain = |name: &&str| is_hostname(name) || name.parse::<IpAddr>().is_ok();
    names.into_iter().filter(is_plain).map(move |name| (name, peer))
}

/// Whether a hostname is safe on a shell's command line.
fn is_hostname(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.starts_with('-') && name.chars().all(plain)
}

/// A candidate with a one-line description.
fn candidate(value: &str, facts: &[&str]) -> CompletionCandidate {
    let help: String = facts.join(" ").chars().filter(|c| !c.is_control()).collect();
    CompletionCandidate::new(value).help(Some(StyledStr::from(help)))
}

fn word(presence: Presence) -> &'static str {
    match presence {
        Presence::Online => "online",
        Presence::Offline => "offline",
        Presence::Conflict => "conflict",
        Presence::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: &str, hostname: &str, address: &str) -> CachedPeer {
        CachedPeer {
            id: id.parse().expect(id),
            hostname: hostname.to_owned(),
            address: Some(address.to_owned()),
            version: "0.1.0".to_owned(),
            state: Presence::Online,
            online: true,
            names: None,
        }
    }

    fn offered(typed: &str) -> Vec<String> {
        let peers = [
            peer("desktop", "desk.example", "10.0.0.2"),
            peer("laptop", "$(reboot)", "`reboot`"),
            peer("vps", "vps.example", "10.0.0.1"),
            peer("w1", "twin", "10.0.1.1"),
            peer("w2", "twin", "10.0.1.2"),
        ];
        matching(&peers, typed).iter().map(|one| one.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn ids_come_first_and_other_names_when_one_was_begun() {
        assert_eq!(offered(""), ["desktop", "laptop", "vps", "w1", "w2"]);
        assert_eq!(offered("v"), ["vps"]);
        assert_eq!(offered("vps."), ["vps.example"]);
        assert_eq!(offered("10.0.0."), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(offered("tw"), [""; 0], "two have it");
        assert_eq!(offered("x"), [""; 0]);
    }

    #[test]
    fn nothing_is_offered_that_a_shell_would_act_on() {
        assert_eq!(offered("$"), [""; 0]);
        assert_eq!(offered("`"), [""; 0]);
    }
}
