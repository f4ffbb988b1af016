//! The health of a peer: what only its own daemon can know about its machine.

use serde::{Deserialize, Serialize};

use super::decode::{self, BadMessage};
use super::{Instance, PeerId};

/// The `type` of the answer on `exec.<peer>.health`.
pub const TYPE: &str = "peerbus.health.v1";

/// The answer. Unknown values are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Always [`TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The peer that answers.
    pub peer_id: PeerId,
    /// The instance of its daemon.
    pub instance: Instance,
    /// Version of the daemon.
    pub daemon_version: String,
    /// The peer's clock: milliseconds since 1970, UTC.
    pub now_ms: u64,
    /// The user the daemon runs as.
    pub user: String,
    /// What holds the processes of a job together.
    pub containment: Containment,
    /// Free bytes on the journal's file system.
    pub journal_free: Option<u64>,
    /// Total bytes of that file system.
    pub journal_size: Option<u64>,
    /// Permissions of the state directory, such as `0o700`.
    pub state_dir_mode: Option<u32>,
    /// The state directory; older daemons omit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<String>,
    /// The file that the daemon was started from. Older daemons omit it, and cannot upgrade themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Records left in the journal's reserve for a full disk, and its size in records; older daemons
    /// omit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<(u32, u32)>,
    /// Which files of this root daemon other users can change, and how to fix that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed: Option<String>,
    /// The damaged registry that this leader moved aside, while the file still exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_aside: Option<String>,
    /// The last upgrade, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeStatus>,
}

/// The progress of an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeStatus {
    /// The upgrade's id.
    pub id: Instance,
    /// The new version.
    pub version: String,
    /// `asked`, `trying`, `done` or `failed`.
    pub phase: String,
    /// What it waits for, or why it failed.
    pub why: String,
}

/// What holds the processes of a job together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Containment {
    /// A cgroup for each job.
    Cgroup,
    /// A subreaper, which adopts orphans of the job.
    Reaper,
}

impl Health {
    /// Decodes an answer.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        let health: Self = decode::json(payload)?;
        decode::check_type(Some(&health.kind), TYPE)?;
        Ok(health)
    }
}
