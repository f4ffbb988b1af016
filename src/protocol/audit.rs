//! The audit log of a peer: its lines, and the query for them on `exec.<peer>.audit`.
//!
//! A line is one JSON object. It carries its number and the hash of the previous line, so the lines
//! form a hash chain, which [`chain`] verifies. Lines travel byte for byte as stored, because the
//! hashes cover that text.

pub mod chain;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::decode::{self, BadMessage};
use super::identity::{Name, Principal, Standing};
use super::{Ending, Instance, JobId, PeerId};

/// The `type` of a query.
pub const QUERY_TYPE: &str = "peerbus.audit_query.v1";

/// The `type` of a page of the log.
pub const PAGE_TYPE: &str = "peerbus.audit_page.v1";

/// Longest line, in bytes. The daemon cuts what a line quotes of a request well below this.
pub const LINE_MAX: usize = 64 << 10;

/// Most lines on one page.
pub const PAGE_MAX: u32 = 1_000;

/// The hash of a line: blake3 of its text without the line end, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LineHash(String);

impl LineHash {
    /// The hash of this line.
    #[must_use]
    pub fn of(line: &[u8]) -> Self {
        Self(blake3::hash(line).to_hex().to_string())
    }

    /// The `prev` hash of the very first line.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self("0".repeat(2 * blake3::OUT_LEN))
    }
}

impl TryFrom<String> for LineHash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 2 * blake3::OUT_LEN && text.bytes().all(is_digit) {
            return Ok(Self(text));
        }
        Err(format!("{:?} is no hash: 64 of 0-9 and a-f are wanted", super::ids::shortened(&text)))
    }
}

impl From<LineHash> for String {
    fn from(hash: LineHash) -> Self {
        hash.0
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The last line of a log: its number and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The number of the line; 0 for an empty log.
    pub seq: u64,
    /// Its hash.
    pub hash: LineHash,
}

impl Checkpoint {
    /// The checkpoint of an empty log.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self { seq: 0, hash: LineHash::of_nothing() }
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The line's number, counted from 1 across all files of the log.
    pub seq: u64,
    /// Hash of the previous line.
    pub prev: LineHash,
    /// Time by the peer's clock: UTC, with milliseconds.
    pub at: String,
    /// What happened.
    #[serde(flatten)]
    pub event: AuditEvent,
}

/// The event that a line records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AuditEvent {
    /// The first line of each file: the peer, and the number of the oldest line kept when the file was
    /// created. The daemon removes older lines to stay within the size limit.
    File {
        /// The peer.
        peer: PeerId,
        /// The oldest kept line.
        oldest: u64,
    },
    /// A daemon started.
    Started {
        /// The instance that started.
        instance: Instance,
        /// Its version.
        version: String,
        /// The user it runs as.
        user: String,
    },
    /// The daemon stopped on request.
    Stopped {
        /// The instance that stopped.
        instance: Instance,
    },
    /// The policy allowed a request; its command starts next.
    Begun(AuditedRequest),
    /// A job ended, or its command failed to start.
    Ended {
        /// The request.
        #[serde(flatten)]
        request: AuditedRequest,
        /// The outcome.
        #[serde(flatten)]
        outcome: AuditedOutcome,
    },
    /// The daemon refused a request.
    Refused {
        /// The request.
        #[serde(flatten)]
        request: AuditedRequest,
        /// The reason, for programs and for people.
        ending: Ending,
    },
    /// Someone controlled an existing job.
    Steered(AuditedControl),
    /// The policy or the permissions refused a control request.
    SteerRefused {
        /// The refused action.
        #[serde(flatten)]
        control: AuditedControl,
        /// The reason, for people.
        why: String,
    },
    /// Summary of requests that the daemon could not decode.
    Malformed(RejectSummary),
    /// Summary of further refused requests and control requests of one principal, written when there are too many for
    /// a line each.
    ManyRefused(RejectSummary),
    /// Summary of further control requests of one principal, likewise.
    ManySteered(RejectSummary),
    /// The previous daemon was killed while it wrote a line; this daemon removed the partial line.
    Healed {
        /// Length of the partial line, in bytes.
        bytes: u64,
        /// Blake3 digest of the partial line.
        blake3: String,
    },
    /// The daemon found its log changed: lines are missing or differ.
    Damaged {
        /// The finding, for people.
        what: String,
    },
    /// Some lines could not be written, for example because the disk was full.
    Gap {
        /// How many lines.
        lost: u64,
        /// Time of the first lost line.
        first: String,
        /// Time of the last lost line.
        last: String,
        /// The system's error.
        why: String,
    },
    /// An event of a later version.
    #[serde(other)]
    Other,
}

/// A request, its sender and the decision about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedRequest {
    /// The job.
    pub job: JobId,
    /// The proven sender; `None` in a fleet without identities.
    pub principal: Option<Name>,
    /// The standing of that identity.
    pub standing: Option<Standing>,
    /// Sender by its own claim; unproven.
    pub from: Option<String>,
    /// The inbox that receives the answer.
    pub caller: String,
    /// The command: a shell line, or arguments quoted where necessary. Long commands are cut.
    pub command: String,
    /// Blake3 digest of the whole command, if it was cut.
    pub command_blake3: Option<String>,
    /// Names of the request's environment variables. The log never records values.
    pub env: Vec<String>,
    /// How many further names were left out.
    pub env_left_out: u64,
    /// Working directory.
    pub directory: Option<String>,
    /// User to run as.
    pub user: Option<String>,
    /// The decision.
    pub decision: AuditDecision,
    /// The policy rule that decided, if one did.
    pub rule: Option<String>,
}

impl AuditedRequest {
    /// The sender, as tables show it.
    #[must_use]
    pub fn principal(&self) -> Principal {
        match (&self.principal, self.standing) {
            (Some(name), Some(standing)) => Principal::Known { name: name.clone(), standing },
            _ => Principal::Anyone,
        }
    }
}

/// The decision about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditDecision {
    /// The request may run.
    Allowed,
    /// The request may not run; the ending says why.
    Refused,
}

impl fmt::Display for AuditDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
        })
    }
}

/// The outcome of an allowed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedOutcome {
    /// How the job ended.
    pub ending: Ending,
    /// Bytes of stdout; `None` if the daemon died.
    pub out: Option<u64>,
    /// Bytes of stderr; `None` if the daemon died.
    pub err: Option<u64>,
    /// From start to end of the process, in milliseconds.
    pub duration_ms: u64,
    /// Processes of the job that the daemon had to stop.
    pub killed: u32,
    /// Processes that kept running after the job's normal end.
    pub left_running: u32,
}

/// A control action on a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedControl {
    /// The job.
    pub job: JobId,
    /// The identity that signed the action; `None` in a fleet without identities.
    pub principal: Option<Name>,
    /// The standing of that identity.
    pub standing: Option<Standing>,
    /// The job's owner, if proven.
    pub owner: Option<Name>,
    /// The inbox that receives the answer.
    pub caller: String,
    /// `attach`, `typed`, `signal`, `stop`, `rename` or `detach`.
    pub word: String,
    /// Its argument: `read` or `write`, the signal, the reason, the new name.
    pub detail: Option<String>,
}

/// Many requests, summed up in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectSummary {
    /// The proven sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Name>,
    /// How many requests.
    pub count: u64,
    /// Arrival of the first request.
    pub first: String,
    /// Arrival of the last request.
    pub last: String,
    /// The first few requests.
    pub examples: Vec<Example>,
}

/// One of the summed-up requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Reply subject; `None` if the request had none.
    pub caller: Option<String>,
    /// What was wrong with the request.
    pub why: String,
}

/// A query for lines of the log. Without fields it starts at the oldest line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditQuery {
    /// [`QUERY_TYPE`]; may be left out.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only lines written at or after this time: UTC, as in `2026-11-21T10:11:12.000Z`.
    #[serde(default)]
    pub since: Option<String>,
    /// Only the last `last` lines of the log; applies to the first page.
    #[serde(default)]
    pub last: Option<u32>,
    /// Where to continue: `next` of the previous page.
    #[serde(default)]
    pub cursor: Option<Cursor>,
    /// At most this many lines on the page.
    #[serde(default)]
    pub limit: Option<u32>,
}

impl AuditQuery {
    /// Decodes a query; an empty payload asks for the first page.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        if payload.is_empty() {
            return Ok(Self::default());
        }
        let query: Self = decode::json(payload)?;
        decode::check_type(query.kind.as_deref(), QUERY_TYPE)?;
        Ok(query)
    }
}

/// A position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The file, named by the number of its first line.
    pub file: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// Always [`PAGE_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The peer that owns the log.
    pub peer_id: PeerId,
    /// The daemon instance that answers.
    pub instance: Instance,
    /// Lines exactly as stored, oldest first.
    pub lines: Vec<String>,
    /// The `cursor` for the next page; `None` on the last page.
    pub next: Option<Cursor>,
    /// The last line when the daemon started this page; `None` if it cannot write the log.
    pub head: Option<Checkpoint>,
    /// Whether rotation removed the lines at the cursor. The page then continues at the oldest line
    /// left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

impl AuditPage {
    /// Decodes an answer.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        let page: Self = decode::json(payload)?;
        decode::check_type(Some(&page.kind), PAGE_TYPE)?;
        Ok(page)
    }
}
