//! The heartbeat: a peer's report about itself, on `peers.alive` and in answer to a ping.

use serde::{Deserialize, Serialize};

use super::audit::Checkpoint;
use super::decode::{self, BadMessage};
use super::{Instance, PeerId};

/// The `type` of a heartbeat.
pub const TYPE: &str = "peerbus.heartbeat.v1";

/// Interval of heartbeats, in milliseconds, before jitter.
pub const INTERVAL_MS: u64 = 5_000;

/// Longest interval that a leader accepts, in milliseconds. Otherwise a peer that announces one
/// heartbeat a year would stay online forever.
pub const INTERVAL_MAX_MS: u64 = 600_000;

/// Longest text of a heartbeat that a leader keeps, in bytes, so that garbage cannot fill the registry.
pub const TEXT_MAX: usize = 255;

/// One heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Always [`TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The sender.
    pub peer_id: PeerId,
    /// Whether the peer is up or leaving.
    pub state: PeerState,
    /// The instance of its daemon.
    pub instance: Instance,
    /// Counts the heartbeats of one instance.
    pub seq: u64,
    /// Milliseconds until the next heartbeat, before jitter.
    pub interval_ms: u64,
    /// The machine's hostname.
    pub hostname: String,
    /// The address of the machine's end of the connection to the bus.
    pub ip_address: Option<String>,
    /// The hardware address of that interface; `None` on WireGuard.
    pub mac_address: Option<String>,
    /// Worker or leader. A leader is a worker too.
    pub role: Role,
    /// Version of the daemon.
    pub daemon_version: String,
    /// Operating system, such as `linux`.
    pub os: String,
    /// Architecture, such as `x86_64`.
    pub arch: String,
    /// Seconds since the daemon's start.
    pub uptime_s: u64,
    /// Load average over one minute.
    pub load: Option<f64>,
    /// Running jobs.
    pub jobs: u32,
    /// Tags from the peer's configuration.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The last line of its audit log. Other machines remember it, so the peer cannot undo it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Checkpoint>,
}

/// The payload of a daemon's ping to its own id, which finds duplicates: a receiver with another
/// instance knows that there are two. Other pings have no payload, except [`PingHints`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The instance that sends the ping.
    pub instance: Instance,
}

/// The payload of a leader's ping to a peer with queued jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingHints {
    /// Always true.
    pub queue: bool,
}

/// The state of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// Serving.
    Up,
    /// Leaving on purpose; the last heartbeat before a clean stop.
    Leaving,
}

/// The role of a daemon in the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Keeps the registry, and runs commands too.
    Leader,
    /// Runs commands.
    Worker,
}

impl Role {
    /// The word in flags, files and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Worker => "worker",
        }
    }
}

impl Heartbeat {
    /// Decodes a heartbeat and checks the fields that a leader relies on.
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
