//! The frames of a job's stream, which a peer sends to its caller's inbox.
//!
//! Every frame carries its number within the current epoch (`D-Seq`: 1, 2, …), so that the next frame
//! reveals a loss. Output frames also carry the stream offset of their first byte (`D-Offset`), so that
//! a resumed stream continues at the exact byte.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::exec::OutputHolder;
use super::send_buffer::StreamOffsets;
use super::tty::TtySize;
use super::{Instance, JobId};

/// Header: the epoch, counted from 1; every resume starts a new one.
pub const EPOCH: &str = "D-Epoch";
/// Header: the frame's number within its epoch, counted from 1.
pub const SEQ: &str = "D-Seq";
/// Header: the frame's kind, see [`FrameKind`].
pub const KIND: &str = "D-Kind";
/// Header: the stream offset of the first byte.
pub const OFFSET: &str = "D-Offset";

/// Most bytes of output in one frame.
pub const OUTPUT_MAX: usize = 64 * 1024;

/// Longest pause between two messages of a peer to a caller, in milliseconds; filled with `alive`
/// frames.
pub const ALIVE_EVERY_MS: u64 = 5_000;

/// One of the two output streams of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// stdout.
    Out,
    /// stderr.
    Err,
}

/// The kind of a frame.
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
    /// Raw bytes that redraw the terminal as of the start of the following output.
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
    /// The last frame of the stream.
    End,
    /// A [`Detached`](super::attach::Detached): the viewer was detached. Nothing follows.
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

    /// The value of the header.
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

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Its process is being created.
    Starting,
    /// Its process runs, or some of its output is still unread.
    Running,
    /// It has ended; its result follows.
    Ended,
}

/// The peer has accepted the job and sends its stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The instance that runs the job; later messages about the job name it.
    pub instance: Instance,
    /// The state of the job.
    pub state: JobState,
    /// Bytes of stdin received so far.
    pub stdin_received: u64,
    /// Number of the last applied signal.
    pub signals: u64,
    /// Whether the job survives its daemon, so that others can attach to it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub durable: bool,
    /// Where the following output starts; `None` means at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StreamOffsets>,
    /// The size of its terminal, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<TtySize>,
    /// The `TERM` of its terminal, if the peer does not know the requested one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// The nonce that each message of this attachment must sign, in `D-Challenge`, in a fleet with
    /// identities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Accepted {
    /// For a job that has ended, or that has no caller at this daemon.
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

/// How much stdin the peer accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdinCredit {
    /// Bytes received without a gap; after a loss, sending restarts here.
    pub received: u64,
    /// Highest offset that may be sent, counted from the beginning of stdin.
    pub limit: u64,
    /// Whether the peer saw a gap and needs everything from `received` on again.
    #[serde(default)]
    pub again: bool,
    /// Whether the command reads no more stdin.
    #[serde(default)]
    pub closed: bool,
}

/// The peer applied a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signalled {
    /// The caller's number of the signal.
    pub n: u64,
    /// Why the signal failed, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The job is alive; contains its totals so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Bytes of stdout read from the command.
    pub out: u64,
    /// Bytes of stderr read from the command.
    pub err: u64,
    /// Bytes of stdin received.
    pub stdin_received: u64,
    /// The processes that still hold the output of the ended command, which the job waits for. Empty if
    /// none of them is visible; `None` while the command runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Vec<OutputHolder>>,
}

/// Demands a new signature of a request or control request, because it could be a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The job.
    pub id: JobId,
    /// The value for the header `D-Challenge` of the repeated message.
    pub challenge: String,
}

/// Output that the peer no longer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The stream.
    pub stream: StreamKind,
    /// First missing byte.
    pub from: u64,
    /// First available byte after the gap.
    pub to: u64,
}
