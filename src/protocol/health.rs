//! How a peer is: what its daemon knows of its machine and cannot be seen from elsewhere.

use serde::{Deserialize, Serialize};

use super::decode::{self, BadMessage};
use super::{Instance, PeerId};

/// The `type` of the answer on `exec.<peer>.health`.
pub const TYPE: &str = "peerbus.health.v1";

/// The answer. What could not be found out is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Always [`TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Who speaks.
    pub peer_id: PeerId,
    /// Which start of its daemon.
    pub instance: Instance,
    /// Version of the daemon.
    pub daemon_version: String,
    /// The peer's clock: milliseconds since 1970, UTC.
    pub now_ms: u64,
    /// The user the daemon runs as.
    pub user: String,
    /// What keeps the processes of a job together.
    pub containment: Containment,
    /// Bytes that are free where the journal is.
    pub journal_free: Option<u64>,
    /// Bytes there are in all.
    pub journal_size: Option<u64>,
    /// Access rights of the state directory, as in `0o700`.
    pub state_dir_mode: Option<u32>,
    /// The state directory; older daemons do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<String>,
    /// The file the daemon was started from; older ones do not say, and cannot hand over to another version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Records that are left in the journal's reserve for a full disk, and of how many; older daemons have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<(u32, u32)>,
    /// What of this daemon, which is root's, others can change, and how that is mended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed: Option<String>,
    /// The registry that this leader has moved aside because it was damaged, while it still lies there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_aside: Option<String>,
    /// The last upgrade, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeStatus>,
}

/// How far an upgrade has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeStatus {
    /// Which one.
    pub id: Instance,
    /// The version it is to.
    pub version: String,
    /// `asked`, `trying`, `done` or `failed`.
    pub phase: String,
    /// What it waits for, or why it failed.
    pub why: String,
}

/// What keeps the processes of a job together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Containment {
    /// A control group for each job.
    Cgroup,
    /// A process that adopts what a job leaves behind.
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
