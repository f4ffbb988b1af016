//! What is said of a job after its start: credit, stdin, signals, resume, attach, resize, rename, detach, release,
//! cancel, result.

use serde::{Deserialize, Serialize};

use super::attach::{AttachRequest, DetachRequest, NAME_MAX, RenameRequest, ResizeRequest, Within, is_name};
use super::decode::{self, BadMessage};
use super::exec::JobResult;
use super::frame::OFFSET;
use super::subjects::Verb;
use super::tty::TtySize;
use super::{Instance, JobId};

/// Frames of output that may be unacknowledged, whatever their size.
pub const FRAMES_IN_FLIGHT: u64 = 1_024;

/// A caller without news for a daemon says so at least this often, in milliseconds.
pub const CREDIT_EVERY_MS: u64 = 5_000;

/// Header of a `stdin` message: the instance it is meant for.
pub const INSTANCE_HEADER: &str = "D-Instance";

/// How much may have been sent, and what has been safely written. All numbers are absolute, so a
/// credit that is lost or comes twice does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// The epoch this is about; a credit of another epoch only shows that the caller lives.
    pub epoch: u64,
    /// The instance this is meant for.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Bytes of stdout and stderr together that may have been sent.
    pub limit: u64,
    /// Highest frame number of this epoch that output may use.
    pub frames: u64,
    /// Bytes of stdout that were written to their destination.
    pub out: u64,
    /// Bytes of stderr that were written to their destination.
    pub err: u64,
    /// Whether the caller has the ending and needs nothing more.
    #[serde(default)]
    pub done: bool,
}

/// Start sending again, in a new epoch, from what was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The new epoch: one more than the last.
    pub epoch: u64,
    /// The instance this is meant for.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Bytes of stdout received.
    pub out: u64,
    /// Bytes of stderr received.
    pub err: u64,
    /// Bytes of both that may have been sent, as in [`Credit`].
    pub limit: u64,
    /// Whether whoever resumes writes to the job, for a daemon that does not know it: see [`AttachRequest`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub write: bool,
    /// Whether every frame is to be signed, likewise.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sealed: bool,
    /// The job from within which it is followed, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<Within>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A signal for the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRequest {
    /// Counts the signals of one job from 1; each is applied once.
    pub n: u64,
    /// The instance this is meant for.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Its name, without `SIG`.
    pub signal: String,
}

/// Stop the job. An empty payload is the same as no fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// The instance this is meant for; none when none has answered yet.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Why, for the job's ending.
    #[serde(default)]
    pub why: Option<String>,
    /// Whether a job that has begun is left alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unless_begun: bool,
}

/// Wait no longer for output that the command, which has ended, has left to other processes: they go on, and the job is
/// over. Of a task no further step begins. An empty payload is the same as no fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// The instance this is meant for.
    #[serde(default)]
    pub instance: Option<Instance>,
}

/// The `type` of the answer to a cancel.
pub const CANCEL_TYPE: &str = "peerbus.cancel_answer.v1";

/// What a peer knows of a job it was asked to cancel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CancelAnswer {
    /// Always [`CANCEL_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The job.
    pub id: JobId,
    /// The instance that answers.
    pub instance: Instance,
    /// What is known.
    pub answer: Cancelled,
    /// How it ended, where it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<JobResult>>,
}

/// The three answers to a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancelled {
    /// The job was surely not run, and never will be.
    NeverSeen,
    /// The job runs; its tree is being stopped.
    Running,
    /// The job has ended already.
    Ended,
}

/// A word about a job, decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// See [`Credit`].
    Credit(Credit),
    /// Bytes of stdin at an offset; none at the end of file.
    Stdin {
        /// Where the first byte stands.
        offset: u64,
        /// The bytes; empty at the end of file.
        bytes: bytes::Bytes,
    },
    /// See [`SignalRequest`].
    Signal(SignalRequest),
    /// See [`Resume`].
    Resume(Resume),
    /// See [`AttachRequest`].
    Attach(AttachRequest),
    /// See [`ResizeRequest`].
    Resize(ResizeRequest),
    /// See [`RenameRequest`].
    Rename(RenameRequest),
    /// See [`DetachRequest`].
    Detach(DetachRequest),
    /// See [`ReleaseRequest`].
    Release(ReleaseRequest),
    /// See [`CancelRequest`].
    Cancel(CancelRequest),
    /// How did it end?
    Result,
}

impl Control {
    /// Decodes a word about a job. The offset comes from the message's header.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(verb: Verb, offset: Option<u64>, payload: bytes::Bytes) -> Result<Self, BadMessage> {
        Ok(match verb {
            Verb::Credit => Self::Credit(decode::json(&payload)?),
            Verb::Signal => Self::Signal(decode::json(&payload)?),
            Verb::Resume => Self::Resume(decode::json(&payload)?),
            Verb::Attach => Self::Attach(decode_attach(&payload)?),
            Verb::Resize => Self::Resize(decode_resize(&payload)?),
            Verb::Rename => Self::Rename(decode_rename(&payload)?),
            Verb::Detach if payload.is_empty() => Self::Detach(DetachRequest::default()),
            Verb::Detach => Self::Detach(decode::json(&payload)?),
            Verb::Release if payload.is_empty() => Self::Release(ReleaseRequest::default()),
            Verb::Release => Self::Release(decode::json(&payload)?),
            Verb::Cancel if payload.is_empty() => Self::Cancel(CancelRequest::default()),
            Verb::Cancel => Self::Cancel(decode::json(&payload)?),
            Verb::Result => Self::Result,
            Verb::Stdin => {
                let missing = || BadMessage(format!("header `{OFFSET}`: missing or not a number"));
                Self::Stdin { offset: offset.ok_or_else(missing)?, bytes: payload }
            }
        })
    }

    /// The instance the word is meant for, where it names one.
    #[must_use]
    pub fn instance(&self) -> Option<Instance> {
        match self {
            Self::Credit(credit) => credit.instance,
            Self::Signal(signal) => signal.instance,
            Self::Resume(resume) => resume.instance,
            Self::Attach(attach) => attach.instance,
            Self::Resize(resize) => resize.instance,
            Self::Rename(rename) => rename.instance,
            Self::Detach(detach) => detach.instance,
            Self::Release(release) => release.instance,
            Self::Cancel(cancel) => cancel.instance,
            Self::Stdin { .. } | Self::Result => None,
        }
    }
}

fn decode_attach(payload: &[u8]) -> Result<AttachRequest, BadMessage> {
    let attach: AttachRequest = decode::json(payload)?;
    if attach.epoch == 0 {
        return Err(BadMessage("field `epoch`: epochs are counted from 1".to_owned()));
    }
    if attach.window == 0 {
        return Err(BadMessage("field `window`: 0 bytes would never let any output through".to_owned()));
    }
    attach.tty.map_or(Ok(()), TtySize::check)?;
    Ok(attach)
}

fn decode_resize(payload: &[u8]) -> Result<ResizeRequest, BadMessage> {
    let resize: ResizeRequest = decode::json(payload)?;
    TtySize { cols: resize.cols, rows: resize.rows }.check()?;
    Ok(resize)
}

fn decode_rename(payload: &[u8]) -> Result<RenameRequest, BadMessage> {
    let rename: RenameRequest = decode::json(payload)?;
    match is_name(&rename.name) {
        true => Ok(rename),
        false => Err(BadMessage(format!(
            "field `name`: {:?} is no name; letters, digits, '-', '_' and '.' make one, {NAME_MAX} at most",
            rename.name
        ))),
    }
}
