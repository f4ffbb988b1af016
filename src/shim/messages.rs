//! The messages between daemon and shim, and the files that a shim writes.
//!
//! Each message is one line: a JSON object whose only key is the message type. Shims outlive the daemon that
//! started them, so both sides may be of different versions. Both ignore unknown messages and unknown fields.
//! No message or field is ever removed or changes its meaning.
//!
//! Both sides begin with a hello ([`ToShim::Hello`], [`FromShim::Hello`]). All other messages report a state
//! or can be repeated, so a broken connection loses nothing: the shim's next hello contains the whole state.

use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use peerbus_process::{JobScope, ProcessKey, Spec, StartError};
use peerbus_protocol::attach::SizeFrom;
use peerbus_protocol::exec::{self, HungProcess, JobResult, OutputHolder, Rusage, StreamTotal};
use peerbus_protocol::frame::StdinCredit;
use peerbus_protocol::send_buffer::StreamOffsets;
use peerbus_protocol::task::StepProgress;
use peerbus_protocol::tty::TtySize;
use peerbus_protocol::{Ending, Instance, JobId, PeerId};

/// The protocol version.
pub const VERSION: u32 = 1;

/// The description of a job. The sender has already journalled it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobSpec {
    /// The command. Its environment may contain secrets, so it is never written to disk.
    pub spec: Spec,
    /// Where its processes live.
    pub job_scope: JobScope,
    /// Its timeout, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// The size of its terminal, if any.
    #[serde(default)]
    pub tty: Option<TtySize>,
    /// The session name.
    #[serde(default)]
    pub name: Option<String>,
    /// The writer whose end of input closes the command's stdin pipe. `None` means the first writer.
    #[serde(default)]
    pub owner: Option<String>,
    /// The further steps, if the command is the first step of a task.
    #[serde(default)]
    pub task: Option<TaskSpec>,
    /// Whether the job ends with its command, even if a descendant still holds the output open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_wait: bool,
    /// Most bytes of output to keep.
    pub log_limit: u64,
}

/// The rest of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Its name, for display.
    pub name: String,
    /// The peer that runs it.
    pub peer: PeerId,
    /// The total number of steps, for display.
    pub of: u32,
    /// The further steps. Each starts only if the previous one succeeded.
    pub then: Vec<StepSpec>,
}

/// A further step of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepSpec {
    /// The command.
    pub spec: Spec,
    /// Its timeout, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// The first line that a shim receives.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FirstMessage {
    pub(super) v: u32,
    pub(super) directory: PathBuf,
    pub(super) order: JobSpec,
}

/// A message from a daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToShim {
    /// The first message of a connection. This connection replaces the previous one.
    Hello {
        /// [`VERSION`].
        v: u32,
        /// The sender.
        #[serde(default)]
        instance: Option<Instance>,
    },
    /// Input from one writer. Answered by [`FromShim::Want`].
    Stdin {
        /// The writer.
        from: String,
        /// The offset of the first byte in this writer's input.
        offset: u64,
        /// The bytes; empty for end of input.
        #[serde(with = "base64_text")]
        data: Bytes,
    },
    /// Signals all processes of the job, once per `n` of a writer. Answered by [`FromShim::Signalled`].
    Signal {
        /// The writer.
        from: String,
        /// Sequence number, counted from 1 per writer.
        n: u64,
        /// A signal name or number.
        signal: String,
    },
    /// Reports the terminal size of a writer. Answered by [`FromShim::Resized`].
    Resize {
        /// The writer.
        from: String,
        /// Sequence number, counted from 1 per writer; older ones are ignored.
        n: u64,
        /// The size.
        #[serde(flatten)]
        size: TtySize,
    },
    /// Stops all processes. Sets the outcome, unless the command has already exited.
    Stop {
        /// The outcome. One that this version does not know still stops the job.
        #[serde(deserialize_with = "ending_or_cancelled")]
        ending: Ending,
    },
    /// Stops waiting for processes that hold the output of an exited command open.
    Release {},
    /// Asks for a snapshot of the terminal. Answered by [`FromShim::Screen`].
    Screen {
        /// Identifies the answer.
        ask: u64,
    },
    /// Flow control for viewers of the terminal: the command's output pauses at this offset, as on any slow
    /// terminal. Applies to this connection.
    Pace {
        /// A combined offset; `None` for no limit.
        until: Option<u64>,
    },
    /// From now on, this writer's terminal answers the queries of the command. Answered by
    /// [`FromShim::Asked`], before any message about later output.
    Asked {
        /// The writer.
        writer: String,
    },
    /// Renames the session.
    Rename {
        /// The new name.
        name: Option<String>,
    },
    /// This writer sends nothing more; the shim may forget its state.
    Forget {
        /// The writer.
        from: String,
    },
}

/// A message from a shim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromShim {
    /// The command is running.
    Started(ProcessKey),
    /// The command could not be started, nothing ran, and the shim exits. Sent only to the daemon that gave
    /// the order.
    Failed(StartError),
    /// The first message of a connection.
    Hello(Box<Hello>),
    /// How far the log can be read.
    Log(LogExtent),
    /// The state of a writer's input.
    Want {
        /// The writer.
        from: String,
        /// The state.
        #[serde(flatten)]
        want: StdinCredit,
    },
    /// A signal was handled.
    Signalled {
        /// The writer.
        from: String,
        /// Its sequence number.
        n: u64,
        /// The error, if it could not be delivered.
        #[serde(default)]
        error: Option<String>,
    },
    /// A resize was handled.
    Resized {
        /// The writer.
        from: String,
        /// Its sequence number.
        n: u64,
        /// The error, if it could not be applied.
        #[serde(default)]
        error: Option<String>,
    },
    /// A snapshot of the terminal.
    Screen(ScreenSnapshot),
    /// From this offset on, this writer's terminal answers the queries of the command.
    Asked(ResponderFrom),
    /// From this offset on, the terminal has this size. Sent before any message about later output.
    Sized(SizeFrom),
    /// Something blocks the job, such as a full disk, or no longer does.
    Trouble {
        /// The problem; `None` when it is over.
        #[serde(default)]
        why: Option<String>,
    },
    /// A task starts this step.
    Step(StepProgress),
    /// The command has exited and the job waits for processes that hold its output open, or no longer does.
    Waiting {
        /// Those of the processes that are visible; `None` when the job does not wait.
        #[serde(default)]
        on: Option<Vec<OutputHolder>>,
    },
    /// The job is over, [`JobEnd`] is on disk, and the shim exits.
    Ended(Box<JobEnd>),
}

/// The state of a job, sent on each new connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub v: u32,
    /// The job.
    pub job: JobId,
    /// The shim itself.
    pub shim: ProcessKey,
    /// The command, once it is running.
    #[serde(default)]
    pub process: Option<ProcessKey>,
    /// The state of the job.
    pub state: ShimState,
    /// How far its log can be read.
    pub log: LogExtent,
    /// The size of its terminal, if any.
    #[serde(default)]
    pub tty: Option<TtySize>,
    /// The session name.
    #[serde(default)]
    pub name: Option<String>,
    /// The known writers and the state of their input.
    #[serde(default)]
    pub writers: Vec<WriterState>,
    /// The problem that blocks the job, if any.
    #[serde(default)]
    pub trouble: Option<String>,
    /// The recent changes of the terminal that answers queries, in order; `None` if this version does not
    /// record them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Vec<ResponderFrom>>,
    /// The current step, if the job is a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepProgress>,
    /// The recent changes of the terminal size, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<SizeFrom>,
    /// The holders of the output that the job waits for, as in [`FromShim::Waiting`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Vec<OutputHolder>>,
}

/// From a given output offset on, this writer's terminal answers the queries of the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponderFrom {
    /// The combined offset.
    pub at: u64,
    /// The writer.
    pub writer: String,
}

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimState {
    /// Its process is being started.
    Starting,
    /// Its process is running, or its output is not completely read.
    Running,
    /// It is over; [`FromShim::Ended`] follows once the outcome is on disk.
    Ended,
}

/// The range of a log that can be read: the bytes written per stream, and where the retained bytes begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogExtent {
    /// Bytes of stdout.
    pub out: u64,
    /// Bytes of stderr.
    pub err: u64,
    /// Bytes of stdout that were dropped.
    pub first_out: u64,
    /// Bytes of stderr that were dropped.
    pub first_err: u64,
}

impl LogExtent {
    /// The bytes written.
    #[must_use]
    pub fn totals(self) -> StreamOffsets {
        StreamOffsets { out: self.out, err: self.err }
    }

    /// Where the retained bytes begin.
    #[must_use]
    pub fn first(self) -> StreamOffsets {
        StreamOffsets { out: self.first_out, err: self.first_err }
    }
}

/// The state of one writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterState {
    /// The writer.
    pub from: String,
    /// How far its input was accepted.
    #[serde(flatten)]
    pub want: StdinCredit,
    /// The sequence number of its last signal.
    #[serde(default)]
    pub signals: u64,
    /// The sequence number of its last resize.
    #[serde(default)]
    pub resizes: u64,
}

/// A snapshot of a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScreenSnapshot {
    /// The number of the request.
    pub ask: u64,
    /// The combined offset of the output it represents.
    pub at: u64,
    /// Escape sequences that draw the same screen on any terminal of this size.
    #[serde(with = "base64_text")]
    pub data: Bytes,
    /// Its size; `None` without a terminal.
    #[serde(default)]
    pub size: Option<TtySize>,
    /// Why there is no snapshot, if so.
    #[serde(default)]
    pub error: Option<String>,
}

/// A shim's description of itself. Written before the command starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShimInfo {
    /// [`VERSION`].
    pub v: u32,
    /// The job.
    pub job: JobId,
    /// The shim itself.
    pub shim: ProcessKey,
    /// The version of its program.
    pub version: String,
    /// Where the job's processes live.
    pub job_scope: JobScope,
    /// The initial size of its terminal, if any.
    #[serde(default)]
    pub tty: Option<TtySize>,
    /// The session name.
    #[serde(default)]
    pub name: Option<String>,
    /// Most bytes of output to keep.
    pub log_limit: u64,
    /// When the shim started, UTC.
    pub started_at: String,
    /// The command, once it is running.
    #[serde(default)]
    pub process: Option<ProcessKey>,
}

/// The outcome of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobEnd {
    /// [`VERSION`].
    pub v: u32,
    /// Why it ended.
    #[serde(deserialize_with = "ending_or_unknown")]
    pub ending: Ending,
    /// The totals of stdout.
    pub out: StreamTotal,
    /// The totals of stderr.
    pub err: StreamTotal,
    /// How many bytes of both streams were dropped.
    pub first: StreamOffsets,
    /// Processes of the job that were stopped.
    pub killed: u32,
    /// How many of those did not exit when asked and received SIGKILL.
    #[serde(default, skip_serializing_if = "exec::is_zero")]
    pub forced: u32,
    /// Processes of the job still running; at least one if they could not be counted.
    pub left_running: u32,
    /// The remaining processes that could not be stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hung: Vec<HungProcess>,
    /// Whether a remaining process holds the output open. Its further output is discarded.
    pub output_open: bool,
    /// The remaining processes that hold the output open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_by: Vec<OutputHolder>,
    /// Why the output is truncated, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_cut: Option<String>,
    /// Resource usage; `None` if the command was not started.
    #[serde(default)]
    pub rusage: Option<Rusage>,
    /// Time from start to exit, in milliseconds.
    pub duration_ms: u64,
    /// When the job ended, UTC.
    pub ended_at: String,
}

impl JobEnd {
    /// The outcome as reported to clients.
    #[must_use]
    pub fn result(self, job: JobId, peer: PeerId, instance: Instance) -> JobResult {
        JobResult {
            out: Some(self.out),
            err: Some(self.err),
            duration_ms: self.duration_ms,
            killed: self.killed,
            forced: self.forced,
            left_running: self.left_running,
            hung: self.hung,
            output_open: self.output_open,
            held_by: self.held_by,
            output_cut: self.output_cut,
            rusage: self.rusage,
            ..JobResult::bare(Some(job), peer, instance, self.ending)
        }
    }
}

/// A newer version may know more outcomes. An unknown one must not hide the message it is in.
fn ending_or<'de, D: Deserializer<'de>>(source: D, other: fn(&Value) -> Ending) -> Result<Ending, D::Error> {
    let value = Value::deserialize(source)?;
    Ok(serde_json::from_value(value.clone()).unwrap_or_else(|_| other(&value)))
}

fn ending_or_cancelled<'de, D: Deserializer<'de>>(source: D) -> Result<Ending, D::Error> {
    ending_or(source, |_| Ending::Cancelled { why: "asked to".to_owned() })
}

fn ending_or_unknown<'de, D: Deserializer<'de>>(source: D) -> Result<Ending, D::Error> {
    ending_or(source, |value| Ending::Unknown { why: format!("its shim says {value}") })
}

/// Bytes as base64 text.
mod base64_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}
