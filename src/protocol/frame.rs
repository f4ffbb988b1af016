//! The frames of a job's stream: what a peer sends to its caller's inbox.
//!
//! Every frame has its number within the current epoch (`D-Seq`: 1, 2, …), so that a loss shows at
//! the next one. Output frames also say where their first byte stands in their own stream
//! (`D-Offset`), so that a resumed stream is joined to the byte.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::exec::OutputHolder;
use super::send_buffer::StreamOffsets;
use super::tty::TtySize;
use super::{Instance, JobId};

/// Header: the epoch, counted from 1; every resume begins a new one.
pub const EPOCH: &str = "D-Epoch";
/// Header: the frame's number within its epoch, counted from 1.
pub const SEQ: &str = "D-Seq";
/// Header: what the frame is, see [`FrameKind`].
pub const KIND: &str = "D-Kind";
/// Header: where the first byte stands in its own stream.
pub const OFFSET: &str = "D-Offset";

/// Most bytes of output in one frame.
pub const OUTPUT_MAX: usize = 64 * 1024;

/// A peer without news for a caller says so this often, in milliseconds.
pub const ALIVE_EVERY_MS: u64 = 5_000;

/// One of the two outputs of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// stdout.
    Out,
    /// stderr.
    Err,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// [`Accepted`]; the first frame of every epoch.
    Accepted,
    /// Raw bytes of stdout.
    Out,
    /// Raw bytes of stderr.
    Err,
    /// [`StdinCredit`].
    Want,
    /// [`Signalled`].
    Signalled,
    /// [`Signalled`], for a size.
    Resized,
    /// Raw bytes that draw a terminal as it stands where the output after them begins.
    Screen,
    /// A [`Responder`](super::attach::Responder).
    Asked,
    /// [`Sizes`](super::attach::Sizes) of the terminal.
    Sized,
    /// [`Alive`].
    Alive,
    /// [`Gap`].
    Gap,
    /// A [`JobResult`](super::exec::JobResult).
    Result,
    /// Nothing follows.
    End,
    /// A [`Detached`](super::attach::Detached): whoever reads here has left. Nothing follows.
    Detached,
    /// Not part of the stream: the answer to a cancel, a result query or a bad message.
    Answer,
    /// Not part of the stream: a [`Challenge`].
    Challenge,
}

impl FrameKind {
    const ALL: [Self; 16] = [
        Self::Accepted,
        Self::Out,
        Self::Err,
        Self::Want,
        Self::Signalled,
        Self::Resized,
        Self::Screen,
        Self::Asked,
        Self::Sized,
        Self::Alive,
        Self::Gap,
        Self::Result,
        Self::End,
        Self::Detached,
        Self::Answer,
        Self::Challenge,
    ];

    /// The word in the header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Out => "out",
            Self::Err => "err",
            Self::Want => "want",
            Self::Signalled => "signalled",
            Self::Resized => "resized",
            Self::Screen => "screen",
            Self::Asked => "asked",
            Self::Sized => "sized",
            Self::Alive => "alive",
            Self::Gap => "gap",
            Self::Result => "result",
            Self::End => "end",
            Self::Detached => "detached",
            Self::Answer => "answer",
            Self::Challenge => "challenge",
        }
    }
}

impl FromStr for FrameKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<StreamKind> for FrameKind {
    fn from(stream: StreamKind) -> Self {
        match stream {
            StreamKind::Out => Self::Out,
            StreamKind::Err => Self::Err,
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Its process is being made.
    Starting,
    /// Its process runs, or its output is not all read.
    Running,
    /// It has ended; its result follows.
    Ended,
}

/// The peer has the job and answers for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The instance that runs it; later messages about the job name it.
    pub instance: Instance,
    /// How far the job is.
    pub state: JobState,
    /// Bytes of stdin received so far.
    pub stdin_received: u64,
    /// Number of the last signal that was applied.
    pub signals: u64,
    /// Whether the job outlives its daemon, so that others may attach to it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub durable: bool,
    /// Where the output begins that is sent here; none means at its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StreamOffsets>,
    /// The size of its terminal, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<TtySize>,
    /// The kind of its terminal (`TERM`), where the peer does not know the one that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// What each word of this attachment is to be signed over, in `D-Challenge`, where members sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Accepted {
    /// For a job that has ended, or that this daemon runs for nobody.
    #[must_use]
    pub fn ended(instance: Instance) -> Self {
        let state = JobState::Ended;
        Self {
            instance,
            state,
            stdin_received: 0,
            signals: u64::MAX,
            durable: false,
            from: None,
            tty: None,
            term: None,
            nonce: None,
        }
    }
}

/// How much stdin the peer can take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdinCredit {
    /// Bytes received without a hole; sending goes on from here after a loss.
    pub received: u64,
    /// Bytes that may have been sent, counted from the beginning of stdin.
    pub limit: u64,
    /// Whether a hole was seen, so that everything from `received` on is wanted again.
    #[serde(default)]
    pub again: bool,
    /// Whether the command reads no more; nothing further is wanted.
    #[serde(default)]
    pub closed: bool,
}

/// A signal was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signalled {
    /// The number the caller gave it.
    pub n: u64,
    /// Why it could not be applied, if it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The job lives, with totals so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Bytes of stdout read from the command.
    pub out: u64,
    /// Bytes of stderr read from the command.
    pub err: u64,
    /// Bytes of stdin received.
    pub stdin_received: u64,
    /// The command has ended, and these processes that it has started still hold its output, which is waited for.
    /// Empty where none of them can be seen; none while the command runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Vec<OutputHolder>>,
}

/// A request or a word about a job is to be signed once more, over this: it may be a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The job.
    pub id: JobId,
    /// What goes into the header `D-Challenge` of the same message.
    pub challenge: String,
}

/// Output that the peer no longer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Of which stream.
    pub stream: StreamKind,
    /// First byte that is missing.
    pub from: u64,
    /// First byte that is there again.
    pub to: u64,
}
