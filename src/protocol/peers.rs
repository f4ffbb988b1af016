//! Questions to the registry, `peers.list`, `peers.get` and `peers.remove`, their answers, and the
//! leader's events.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::audit::Checkpoint;
use super::decode::{self, BadMessage};
use super::heartbeat::Role;
use super::{Instance, PeerId};

/// The `type` of a `peers.list` question.
pub const LIST_TYPE: &str = "peerbus.peers_list.v1";
/// The `type` of a page of peers.
pub const PAGE_TYPE: &str = "peerbus.peers_page.v1";
/// The `type` of a `peers.get` question.
pub const GET_TYPE: &str = "peerbus.peers_get.v1";
/// The `type` of one peer's row, as answered.
pub const PEER_TYPE: &str = "peerbus.peer.v1";
/// The `type` of a `peers.remove` question.
pub const REMOVE_TYPE: &str = "peerbus.peers_remove.v1";
/// The `type` of its answer.
pub const REMOVED_TYPE: &str = "peerbus.peer_removed.v1";
/// The `type` of an event about a peer.
pub const EVENT_TYPE: &str = "peerbus.peer_event.v1";

/// Most rows a leader puts on one page, whatever was asked for.
pub const PAGE_MAX: u32 = 1_000;

/// Longest name a peer can be asked for by, in bytes: no id, hostname or address is longer.
pub const NAME_MAX: usize = 255;

/// One peer, as the registry knows it. The first seven keys are those of the table
/// `peer_registry`, which scripts rely on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerRow {
    /// Its id.
    pub peer_id: PeerId,
    /// Address of its end of the link to the bus.
    pub ip_address: Option<String>,
    /// Hardware address of that link.
    pub mac_address: Option<String>,
    /// The machine's hostname.
    pub hostname: String,
    /// When the leader last heard it: UTC, `YYYY-MM-DDTHH:MM:SSZ`.
    pub last_seen: String,
    /// Whether it is, or was last known to be, on the bus.
    pub is_online: bool,
    /// Version of its daemon.
    pub daemon_version: String,
    /// What the leader knows of its presence.
    pub state: Presence,
    /// Worker or leader.
    pub role: Role,
    /// The instance that beat last.
    pub instance: Option<Instance>,
    /// As in `linux`.
    pub os: String,
    /// As in `x86_64`.
    pub arch: String,
    /// Jobs it ran at its last beat.
    pub jobs: u32,
    /// Load average at its last beat.
    pub load: Option<f64>,
    /// Seconds its daemon had been up at its last beat.
    pub uptime_s: u64,
    /// Words its configuration gives it.
    pub tags: Vec<String>,
    /// The furthest its audit log ever went, as far as this leader has heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Checkpoint>,
    /// Names and addresses that its certificate gives it: only those lead to it beside its id. None where its
    /// certificate was not seen, as in a fleet without identities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
}

/// What the leader knows of a peer's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It beats.
    Online,
    /// It said it was leaving, or missed three beats.
    Offline,
    /// The leader has just started or reconnected and has not decided yet.
    Unknown,
    /// Two instances beat under its id.
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
    /// Decodes a question; an empty payload asks for the first page.
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
    /// Ask again with this as `after`; none on the last page.
    pub next: Option<PeerId>,
    /// The `after` that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<PeerId>,
    /// The leader that answers.
    pub leader: PeerId,
    /// Its instance. Pages of one list must all come from the same.
    pub leader_instance: Instance,
    /// Milliseconds since the leader started to listen: a registry younger than three heartbeat
    /// intervals has not decided yet who is offline.
    pub age_ms: u64,
    /// Whether further peers were heard and not taken, because the registry has as many as it may:
    /// then the list is short of those.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_out: bool,
}

/// The form in which names of peers are compared: without the dot that ends a full hostname, and addresses as they are
/// written shortest, without brackets and not as IPv4 within IPv6.
#[must_use]
pub fn normal_name(name: &str) -> Cow<'_, str> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match bare.parse::<IpAddr>() {
        Ok(address) => Cow::Owned(address.to_canonical().to_string()),
        Err(_) => Cow::Borrowed(name.strip_suffix('.').unwrap_or(name)),
    }
}

/// Whether a name is this hostname or address.
#[must_use]
pub fn is_name(name: &str, own: &str) -> bool {
    normal_name(name).eq_ignore_ascii_case(&normal_name(own))
}

/// Whether a name is the first part of this full hostname.
#[must_use]
pub fn is_short_name(name: &str, hostname: &str) -> bool {
    let name = normal_name(name);
    let is_full = |(short, _): (&str, &str)| short.eq_ignore_ascii_case(&name);
    hostname.parse::<IpAddr>().is_err() && hostname.split_once('.').is_some_and(is_full)
}

/// Whether a name is one of these, or the first part of one that is a full hostname.
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
    /// Decodes a question of this type.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(payload: &[u8], kind: &'static str) -> Result<Self, BadMessage> {
        let request: Self = decode::json(payload)?;
        decode::check_type(request.kind.as_deref(), kind)?;
        Ok(request)
    }
}

/// What is found, or was found and removed, under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Found {
    /// This peer, and no other.
    One {
        /// Its row.
        peer: Box<PeerRow>,
    },
    /// No peer of that name.
    None {},
    /// More than one peer has that hostname or address; which ones.
    Many {
        /// Their ids, sorted.
        ids: Vec<PeerId>,
    },
}

/// Answer to `peers.get` and `peers.remove`, as sent. A peer that was removed is out of the
/// registry's database too by then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetAnswer {
    /// [`PEER_TYPE`] or [`REMOVED_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// What was asked for.
    pub asked: String,
    /// What was found.
    #[serde(flatten)]
    pub found: Found,
    /// The leader that answers.
    pub leader: PeerId,
    /// In a fleet with identities: peers that say themselves that the name is theirs, which leads nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_by: Vec<PeerId>,
    /// The certificate that gives the found peer this name, where it is not its id: the principal checks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// What happened to a peer. The last but one token of `peers.event.<kind>.<peer>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// First heard of.
    Joined,
    /// Beats again.
    Online,
    /// Left, or missed three beats.
    Offline,
    /// Two instances beat under one id.
    Conflict,
    /// Taken out of the registry.
    Removed,
}

impl EventKind {
    /// The word in the subject.
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
    /// What happened.
    pub event: EventKind,
    /// To whom.
    pub peer_id: PeerId,
    /// When, by the leader's clock: UTC, `YYYY-MM-DDTHH:MM:SSZ`.
    pub at: String,
    /// Why, for people.
    pub why: String,
}
