//! The audit log of a peer: what one line of it says, and how it is asked for on `exec.<peer>.audit`.
//!
//! A line is one JSON object. It carries its number and the hash of the line before it, so that the
//! lines are a chain: [`chain`] checks one. Lines travel as the very text that was written down,
//! because their hashes are over that text.

pub mod chain;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::decode::{self, BadMessage};
use super::identity::{Name, Principal, Standing};
use super::{Ending, Instance, JobId, PeerId};

/// The `type` of a question.
pub const QUERY_TYPE: &str = "peerbus.audit_query.v1";

/// The `type` of a page of the log.
pub const PAGE_TYPE: &str = "peerbus.audit_page.v1";

/// Longest line there is, in bytes. What a line quotes of a request is cut well below this.
pub const LINE_MAX: usize = 64 << 10;

/// Most lines of one page.
pub const PAGE_MAX: u32 = 1_000;

/// The hash of a line: blake3 of its text without the line end, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LineHash(String);

impl LineHash {
    /// Of this line.
    #[must_use]
    pub fn of(line: &[u8]) -> Self {
        Self(blake3::hash(line).to_hex().to_string())
    }

    /// What the first line of all continues.
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

/// How far a log goes: its last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The number of the line; 0 for a log without any.
    pub seq: u64,
    /// Its hash.
    pub hash: LineHash,
}

impl Checkpoint {
    /// Of a log without a line.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self { seq: 0, hash: LineHash::of_nothing() }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Counts the lines of a log, from 1, across its files.
    pub seq: u64,
    /// Hash of the line before it.
    pub prev: LineHash,
    /// When, by the peer's clock: UTC, to the millisecond.
    pub at: String,
    /// What happened.
    #[serde(flatten)]
    pub event: AuditEvent,
}

/// What a line tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AuditEvent {
    /// The first line of each file: which peer's log this is, and the number of the oldest line that
    /// was kept when the file was begun. Older ones were removed to stay within the size.
    File {
        /// Whose log.
        peer: PeerId,
        /// The oldest line that is kept.
        oldest: u64,
    },
    /// A daemon was started.
    Started {
        /// Which start.
        instance: Instance,
        /// Its version.
        version: String,
        /// The user it runs as.
        user: String,
    },
    /// It ended as asked.
    Stopped {
        /// Which start.
        instance: Instance,
    },
    /// A request was allowed; its command is about to be started.
    Begun(AuditedRequest),
    /// It has ended, or could not be started.
    Ended {
        /// What was asked for.
        #[serde(flatten)]
        request: AuditedRequest,
        /// What became of it.
        #[serde(flatten)]
        outcome: AuditedOutcome,
    },
    /// A request was refused.
    Refused {
        /// What was asked for.
        #[serde(flatten)]
        request: AuditedRequest,
        /// Why, for programs and for people.
        ending: Ending,
    },
    /// Somebody did something with a job that was there already.
    Steered(AuditedControl),
    /// Requests that could not be read, counted and summed up.
    Malformed(RejectSummary),
    /// Further refused requests of one principal, where there were too many to write down each.
    ManyRefused(RejectSummary),
    /// Further words about jobs of one principal, likewise.
    ManySteered(RejectSummary),
    /// The daemon before this one was killed in the middle of a line, which was cut off again.
    Healed {
        /// Bytes that were there of it.
        bytes: u64,
        /// Their blake3 digest.
        blake3: String,
    },
    /// The daemon found that its log is not as it was left: lines are gone, or are others.
    Damaged {
        /// What was found, for people.
        what: String,
    },
    /// Lines could not be written, as on a disk that was full.
    Gap {
        /// How many.
        lost: u64,
        /// When the first of them was to be written.
        first: String,
        /// When the last was.
        last: String,
        /// What the system said.
        why: String,
    },
    /// Something that a later version writes down.
    #[serde(other)]
    Other,
}

/// What was asked for, by whom, and what was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedRequest {
    /// The job.
    pub job: JobId,
    /// Who asked, as far as it is proved; none where nobody is asked who they are.
    pub principal: Option<Name>,
    /// What that identity is for.
    pub standing: Option<Standing>,
    /// Who asked, by its own word: a claim.
    pub from: Option<String>,
    /// The inbox it is answered on.
    pub caller: String,
    /// What to run: a shell line, or arguments in quotes where they need some. Cut where it is long.
    pub command: String,
    /// The blake3 digest of the whole command, where it was cut.
    pub command_blake3: Option<String>,
    /// Names of the variables it brings. Their values are written down nowhere.
    pub env: Vec<String>,
    /// How many names more there are.
    pub env_left_out: u64,
    /// Where.
    pub directory: Option<String>,
    /// As whom.
    pub user: Option<String>,
    /// What was decided.
    pub decision: AuditDecision,
    /// The rule of the peer's policy that decided, where one did.
    pub rule: Option<String>,
}

impl AuditedRequest {
    /// Whose name stands in a table.
    #[must_use]
    pub fn principal(&self) -> Principal {
        match (&self.principal, self.standing) {
            (Some(name), Some(standing)) => Principal::Known { name: name.clone(), standing },
            _ => Principal::Anyone,
        }
    }
}

/// What was decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditDecision {
    /// It may run.
    Allowed,
    /// It may not; the ending says why.
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

/// What became of a request that was allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedOutcome {
    /// How it ended.
    pub ending: Ending,
    /// Bytes of stdout; unknown when its daemon died.
    pub out: Option<u64>,
    /// Bytes of stderr; unknown when its daemon died.
    pub err: Option<u64>,
    /// From the start of the process to its end, in milliseconds.
    pub duration_ms: u64,
    /// Processes of the job that had to be stopped.
    pub killed: u32,
    /// Processes of the job that went on after its normal end.
    pub left_running: u32,
}

/// What somebody did with a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedControl {
    /// The job.
    pub job: JobId,
    /// Who signed it; none where nobody is asked who they are.
    pub principal: Option<Name>,
    /// What that identity is for.
    pub standing: Option<Standing>,
    /// Whose job it is, as far as that was proved.
    pub owner: Option<Name>,
    /// The inbox it is answered on.
    pub caller: String,
    /// `attach`, `typed`, `signal`, `stop`, `rename` or `detach`.
    pub word: String,
    /// To what: `read` or `write`, the signal, the reason, the new name.
    pub detail: Option<String>,
}

/// Many requests in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectSummary {
    /// Who said them, as far as that is proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Name>,
    /// How many.
    pub count: u64,
    /// When the first came.
    pub first: String,
    /// When the last came.
    pub last: String,
    /// The first few of them.
    pub examples: Vec<Example>,
}

/// One of many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Where its answer was wanted; none where nowhere.
    pub caller: Option<String>,
    /// What was wrong with it.
    pub why: String,
}

/// A question for lines of the log. Without anything: from the oldest line on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditQuery {
    /// [`QUERY_TYPE`]; may be left out.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only lines written at or after this time: UTC, as in `2026-11-21T10:11:12.000Z`.
    #[serde(default)]
    pub since: Option<String>,
    /// Only this many lines at the end of the log; counts for the first page.
    #[serde(default)]
    pub last: Option<u32>,
    /// Where to go on: `next` of the page before.
    #[serde(default)]
    pub cursor: Option<Cursor>,
    /// At most this many lines on the page.
    #[serde(default)]
    pub limit: Option<u32>,
}

impl AuditQuery {
    /// Decodes a question; an empty payload asks for the first page.
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

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The file: the number of its first line.
    pub file: u64,
    /// Bytes from its begin.
    pub offset: u64,
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// Always [`PAGE_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose log.
    pub peer_id: PeerId,
    /// Which start of its daemon answers.
    pub instance: Instance,
    /// Lines as they stand in the log, oldest first.
    pub lines: Vec<String>,
    /// Ask again with this as `cursor`; none on the last page.
    pub next: Option<Cursor>,
    /// The last line there was when this page was begun; none where the log cannot be written.
    pub head: Option<Checkpoint>,
    /// Whether lines at the cursor were removed since, to stay within the size: then this page goes
    /// on at the oldest line there is.
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
