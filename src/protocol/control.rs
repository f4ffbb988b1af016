//! Control requests of a job after its start: credit, stdin, signal, resume, attach, resize, rename,
//! detach, release, cancel, result.

use serde::{Deserialize, Serialize};

use super::attach::{AttachRequest, DetachRequest, NAME_MAX, RenameRequest, ResizeRequest, Within, is_name};
use super::decode::{self, BadMessage};
use super::exec::JobResult;
use super::frame::OFFSET;
use super::subjects::Verb;
use super::tty::TtySize;
use super::{Instance, JobId};

/// Most unacknowledged output frames of any size.
pub const FRAMES_IN_FLIGHT: u64 = 1_024;

/// Longest pause between two messages of a caller to a daemon, in milliseconds.
pub const CREDIT_EVERY_MS: u64 = 5_000;

/// Header of a `stdin` message: the intended instance.
pub const INSTANCE_HEADER: &str = "D-Instance";

/// How much the peer may send, and how much the caller has safely written. All numbers are absolute, so
/// a lost or repeated credit does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// Epoch of this credit; `frames` applies only to this epoch.
    pub epoch: u64,
    /// The intended instance.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Highest total of stdout and stderr bytes that the peer may send.
    pub limit: u64,
    /// Highest frame number of this epoch that output may use.
    pub frames: u64,
    /// Bytes of stdout written to their destination.
    pub out: u64,
    /// Bytes of stderr written to their destination.
    pub err: u64,
    /// Whether the caller has the ending and needs nothing more.
    #[serde(default)]
    pub done: bool,
}

/// Restart sending, in a new epoch, after the received bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The new epoch: one more than the last.
    pub epoch: u64,
    /// The intended instance.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Bytes of stdout received.
    pub out: u64,
    /// Bytes of stderr received.
    pub err: u64,
    /// Highest total of bytes that the peer may send, as in [`Credit`].
    pub limit: u64,
    /// Whether the caller writes to the job, for a daemon that does not know it: see [`AttachRequest`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub write: bool,
    /// Whether to sign every frame, likewise.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sealed: bool,
    /// The jobs that display this output, likewise.
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
    /// Counts the signals of one job from 1; the peer applies each once.
    pub n: u64,
    /// The intended instance.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Name of the signal, without `SIG`.
    pub signal: String,
}

/// Stops the job. An empty payload means no fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// The intended instance; `None` if none has answered yet.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// The reason, for the job's ending.
    #[serde(default)]
    pub why: Option<String>,
    /// Whether to leave a started job alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unless_begun: bool,
}

/// Stops waiting for output that other processes still hold after the command's end. The processes
/// continue, and the job ends; a task starts no further step. An empty payload means no fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// The intended instance.
    #[serde(default)]
    pub instance: Option<Instance>,
}

/// The `type` of the answer to a cancel.
pub const CANCEL_TYPE: &str = "peerbus.cancel_answer.v1";

/// A peer's answer to a cancel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CancelAnswer {
    /// Always [`CANCEL_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The job.
    pub id: JobId,
    /// The instance that answers.
    pub instance: Instance,
    /// The state of the job.
    pub answer: Cancelled,
    /// Its result, if it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<JobResult>>,
}

/// The possible answers to a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancelled {
    /// The job surely did not run, and never will.
    NeverSeen,
    /// The job is running; the peer is stopping its process tree.
    Running,
    /// The job had ended already.
    Ended,
}

/// A decoded control request.
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// See [`Credit`].
    Credit(Credit),
    /// A chunk of stdin.
    Stdin {
        /// The offset of its first byte.
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
    /// Asks how the job ended.
    Result,
}

impl Control {
    /// Decodes a control request. The offset comes from the message's header.
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

    /// The intended instance, if the request names one.
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
