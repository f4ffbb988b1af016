//! The heartbeat: what a peer says of itself on `peers.alive`, and in answer to a ping.

use serde::{Deserialize, Serialize};

use super::audit::Checkpoint;
use super::decode::{self, BadMessage};
use super::{Instance, PeerId};

/// The `type` of a heartbeat.
pub const TYPE: &str = "peerbus.heartbeat.v1";

/// How often a peer beats, in milliseconds, before jitter.
pub const INTERVAL_MS: u64 = 5_000;

/// Longest interval a leader believes, in milliseconds: a peer that promises to beat once a year
/// would otherwise be online for ever.
pub const INTERVAL_MAX_MS: u64 = 600_000;

/// Longest text of a heartbeat a leader keeps, in bytes, so that garbage cannot fill a registry.
pub const TEXT_MAX: usize = 255;

/// One beat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Always [`TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Who speaks.
    pub peer_id: PeerId,
    /// Whether the peer is up, or is going away on purpose.
    pub state: PeerState,
    /// Which start of its daemon speaks.
    pub instance: Instance,
    /// Counts the beats of one instance.
    pub seq: u64,
    /// Milliseconds until the next beat, before jitter.
    pub interval_ms: u64,
    /// The machine's hostname.
    pub hostname: String,
    /// The address of the machine's end of the link to the bus.
    pub ip_address: Option<String>,
    /// The hardware address of that link; none on WireGuard.
    pub mac_address: Option<String>,
    /// Worker, or leader (which is a worker too).
    pub role: Role,
    /// Version of the daemon.
    pub daemon_version: String,
    /// As in `linux`.
    pub os: String,
    /// As in `x86_64`.
    pub arch: String,
    /// Seconds since the daemon's start.
    pub uptime_s: u64,
    /// Load average over one minute.
    pub load: Option<f64>,
    /// Jobs that run now.
    pub jobs: u32,
    /// Words the peer's configuration gives it.
    #[serde(default)]
    pub tags: Vec<String>,
    /// How far its audit log goes: what somebody else knows of it cannot be undone on the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Checkpoint>,
}

/// What a daemon says when it pings its own id, to look for others that have it: who hears it knows
/// that there are two. Other pings but [`PingHints`] say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Which start of a daemon asks.
    pub instance: Instance,
}

/// What the leader says when it pings a peer for which something waits in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingHints {
    /// Always true.
    pub queue: bool,
}

/// What a peer says of its own state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// Serving.
    Up,
    /// Going away on purpose; the last beat before a clean stop.
    Leaving,
}

/// What a daemon is to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Keeps the registry, and runs commands too.
    Leader,
    /// Runs commands.
    Worker,
}

impl Role {
    /// The word used in flags, files and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Worker => "worker",
        }
    }
}

impl Heartbeat {
    /// Decodes a beat and checks what a leader is going to rely on.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or too long.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        let beat: Self = decode::json(payload)?;
        decode::check_type(Some(&beat.kind), TYPE)?;
        if !(1..=INTERVAL_MAX_MS).contains(&beat.interval_ms) {
            return Err(BadMessage(format!(
                "field `interval_ms`: {} is not within 1..={INTERVAL_MAX_MS}",
                beat.interval_ms
            )));
        }
        for (field, text) in [
            ("hostname", Some(&beat.hostname)),
            ("ip_address", beat.ip_address.as_ref()),
            ("mac_address", beat.mac_address.as_ref()),
            ("daemon_version", Some(&beat.daemon_version)),
            ("os", Some(&beat.os)),
            ("arch", Some(&beat.arch)),
        ] {
            if text.is_some_and(|text| text.len() > TEXT_MAX) {
                return Err(BadMessage(format!("field `{field}`: longer than {TEXT_MAX} bytes")));
            }
        }
        if beat.tags.iter().map(|tag| tag.len() + 1).sum::<usize>() > TEXT_MAX {
            return Err(BadMessage(format!("field `tags`: longer than {TEXT_MAX} bytes together")));
        }
        Ok(beat)
    }
}
