//! Requests to the registry (`peers.list`, `peers.get`, `peers.remove`), their answers, and the
//! leader's events.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::audit::Checkpoint;
use super::decode::{self, BadMessage};
use super::heartbeat::Role;
use super::{Instance, PeerId};

/// The `type` of a `peers.list` request.
pub const LIST_TYPE: &str = "peerbus.peers_list.v1";
/// The `type` of a page of peers.
pub const PAGE_TYPE: &str = "peerbus.peers_page.v1";
/// The `type` of a `peers.get` request.
pub const GET_TYPE: &str = "peerbus.peers_get.v1";
/// The `type` of an answer with one peer.
pub const PEER_TYPE: &str = "peerbus.peer.v1";
/// The `type` of a `peers.remove` request.
pub const REMOVE_TYPE: &str = "peerbus.peers_remove.v1";
/// The `type` of its answer.
pub const REMOVED_TYPE: &str = "peerbus.peer_removed.v1";
/// The `type` of an event about a peer.
pub const EVENT_TYPE: &str = "peerbus.peer_event.v1";

/// Most rows on one page, even if the request asks for more.
pub const PAGE_MAX: u32 = 1_000;

/// Longest name in a request, in bytes: no id, hostname or address is longer.
pub const NAME_MAX: usize = 255;

/// One peer in the registry. The first seven keys are those of the table `peer_registry`, which scripts
/// rely on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerRow {
    /// Its id.
    pub peer_id: PeerId,
    /// Address of the peer's end of the connection to the bus.
    pub ip_address: Option<String>,
    /// Hardware address of that network interface.
    pub mac_address: Option<String>,
    /// The machine's hostname.
    pub hostname: String,
    /// When the leader last heard from it: UTC, `YYYY-MM-DDTHH:MM:SSZ`.
    pub last_seen: String,
    /// Whether it is online, or was when last known.
    pub is_online: bool,
    /// Version of its daemon.
    pub daemon_version: String,
    /// Its presence, as the leader knows it.
    pub state: Presence,
    /// Worker or leader.
    pub role: Role,
    /// The instance that sent the last heartbeat.
    pub instance: Option<Instance>,
    /// Operating system, such as `linux`.
    pub os: String,
    /// Architecture, such as `x86_64`.
    pub arch: String,
    /// Running jobs at its last heartbeat.
    pub jobs: u32,
    /// Load average at its last heartbeat.
    pub load: Option<f64>,
    /// Uptime of its daemon at the last heartbeat, in seconds.
    pub uptime_s: u64,
    /// Tags from its configuration.
    pub tags: Vec<String>,
    /// The highest checkpoint of its audit log that this leader has received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Checkpoint>,
    /// Names and addresses in its certificate: only these and its id resolve to it. `None` if the
    /// leader has not seen a certificate, as in a fleet without identities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
}

/// The presence of a peer, as the leader knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It sends heartbeats.
    Online,
    /// It announced that it leaves, or missed three heartbeats.
    Offline,
    /// The leader has just started or reconnected, and cannot tell yet.
    Unknown,
    /// Two instances send heartbeats under its id.
    Conflict,
}

/// `peers.list`: one page of the registry, sorted by peer id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRequest {
    /// [`LIST_TYPE`]; may be left out.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only ids greater than this one.
    #[serde(default)]
    pub after: Option<PeerId>,
    /// At most this many rows.
    #[serde(default)]
    pub limit: Option<u32>,
}

impl ListRequest {
    /// Decodes a request; an empty payload asks for the first page.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        if payload.is_empty() {
            return Ok(Self::default());
        }
        let request: Self = decode::json(payload)?;
        decode::check_type(request.kind.as_deref(), LIST_TYPE)?;
        Ok(request)
    }
}

/// One page of the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerPage {
    /// Always [`PAGE_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Rows, sorted by peer id.
    pub peers: Vec<PeerRow>,
    /// The `after` for the next page; `None` on the last page.
    pub next: Option<PeerId>,
    /// The `after` of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<PeerId>,
    /// The leader that answers.
    pub leader: PeerId,
    /// The leader's instance. All pages of one list must come from the same instance.
    pub leader_instance: Instance,
    /// Milliseconds since the leader started to listen. A registry younger than three heartbeat
    /// intervals cannot tell yet which peers are offline.
    pub age_ms: u64,
    /// Whether the registry is full and has ignored further peers. The list is then incomplete.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_out: bool,
}

/// Normalizes a peer name for comparison: a full hostname without its final dot; an address in its
/// shortest form, without brackets, and as IPv4 if it is IPv4-mapped.
#[must_use]
pub fn normal_name(name: &str) -> Cow<'_, str> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match bare.parse::<IpAddr>() {
        Ok(address) => Cow::Owned(address.to_canonical().to_string()),
        Err(_) => Cow::Borrowed(name.strip_suffix('.').unwrap_or(name)),
    }
}

/// Whether a name equals this hostname or address.
#[must_use]
pub fn is_name(name: &str, own: &str) -> bool {
    normal_name(name).eq_ignore_ascii_case(&normal_name(own))
}

/// Whether a name is the first label of this full hostname.
#[must_use]
pub fn is_short_name(name: &str, hostname: &str) -> bool {
    let name = normal_name(name);
    let is_full = |(short, _): (&str, &str)| short.eq_ignore_ascii_case(&name);
    hostname.parse::<IpAddr>().is_err() && hostname.split_once('.').is_some_and(is_full)
}

/// Whether a name equals one of these names, or the first label of one that is a full hostname.
#[must_use]
pub fn is_among(name: &str, names: &[String]) -> bool {
    names.iter().any(|own| is_name(name, own) || is_short_name(name, own))
}

/// `peers.get` and `peers.remove`: one peer, by id, hostname or address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetRequest {
    /// [`GET_TYPE`] or [`REMOVE_TYPE`]; may be left out.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Id, hostname or address.
    pub peer: String,
}

impl GetRequest {
    /// Decodes a request of the given type.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(payload: &[u8], kind: &'static str) -> Result<Self, BadMessage> {
        let request: Self = decode::json(payload)?;
        decode::check_type(request.kind.as_deref(), kind)?;
        Ok(request)
    }
}

/// The peers that a name resolves to; after `peers.remove`, the removed peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Found {
    /// Exactly one peer.
    One {
        /// Its row.
        peer: Box<PeerRow>,
    },
    /// No peer has the name.
    None {},
    /// Several peers have that hostname or address.
    Many {
        /// Their ids, sorted.
        ids: Vec<PeerId>,
    },
}

/// Answer to `peers.get` and `peers.remove`. A removed peer is also out of the registry's database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetAnswer {
    /// [`PEER_TYPE`] or [`REMOVED_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The requested name.
    pub asked: String,
    /// The result of the lookup.
    #[serde(flatten)]
    pub found: Found,
    /// The leader that answers.
    pub leader: PeerId,
    /// In a fleet with identities: peers that claim the name without a certificate. Such a name does
    /// not resolve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_by: Vec<PeerId>,
    /// The certificate that gives the peer this name, if the name is not its id. The client verifies
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// An event about a peer: the last token but one of `peers.event.<kind>.<peer>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// First heartbeat ever.
    Joined,
    /// Heartbeats again.
    Online,
    /// Left, or missed three heartbeats.
    Offline,
    /// Two instances send heartbeats under one id.
    Conflict,
    /// Removed from the registry.
    Removed,
}

impl EventKind {
    /// Its token in the subject.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Conflict => "conflict",
            Self::Removed => "removed",
        }
    }
}

/// An event about a peer, published by the leader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerEvent {
    /// Always [`EVENT_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of event.
    pub event: EventKind,
    /// The peer.
    pub peer_id: PeerId,
    /// Time by the leader's clock: UTC, `YYYY-MM-DDTHH:MM:SSZ`.
    pub at: String,
    /// The reason, for people.
    pub why: String,
}
