//! What daemon and shim say to each other, and what a shim leaves behind in writing.
//!
//! One JSON object a line, with one key: the word. Shims outlive the daemon that started them, so
//! each may be of another version: a word that is not known and a field that is not known are passed
//! over, nothing is ever taken away, and nothing changes its meaning.
//!
//! A daemon says [`ToShim::Hello`] first; so does the shim. Everything else tells how things are
//! or may be asked again, so a connection that breaks loses nothing: whoever comes next is told all of it
//! in the shim's hello.

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

/// The version of these words.
pub const VERSION: u32 = 1;

/// What a job is to be. Whoever gives the order has journalled it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobSpec {
    /// The command. Its variables may be secrets, so it is never written down.
    pub spec: Spec,
    /// Where its processes are to live.
    pub job_scope: JobScope,
    /// How long it may run, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// The terminal it gets, if any.
    #[serde(default)]
    pub tty: Option<TtySize>,
    /// The name of the session.
    #[serde(default)]
    pub name: Option<String>,
    /// The writer whose end of input is the command's, where it reads a pipe. The first one to write, if
    /// none is named.
    #[serde(default)]
    pub owner: Option<String>,
    /// What follows the command, where that is the first step of a task.
    #[serde(default)]
    pub task: Option<TaskSpec>,
    /// Whether it ends with its command, also where a process that the command has started still holds its output.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_wait: bool,
    /// Most bytes of output to keep.
    pub log_limit: u64,
}

/// The rest of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskSpec {
    /// What people call it.
    pub name: String,
    /// The peer that runs it.
    pub peer: PeerId,
    /// How many steps it is said to have.
    pub of: u32,
    /// Each begins where the one before it has ended well.
    pub then: Vec<StepSpec>,
}

/// A further step of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepSpec {
    /// The command.
    pub spec: Spec,
    /// How long it may run, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// The first line that a shim hears.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FirstMessage {
    pub(super) v: u32,
    pub(super) directory: PathBuf,
    pub(super) order: JobSpec,
}

/// What a daemon says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToShim {
    /// The first word of a connection, which is the one that counts from now on.
    Hello {
        /// [`VERSION`].
        v: u32,
        /// Who speaks.
        #[serde(default)]
        instance: Option<Instance>,
    },
    /// Input of one writer. Answered by [`FromShim::Want`].
    Stdin {
        /// The writer.
        from: String,
        /// Where in what this writer writes the first byte stands.
        offset: u64,
        /// The bytes; none for the end of input.
        #[serde(with = "base64_text")]
        data: Bytes,
    },
    /// A signal for the whole tree, applied once for each number of a writer. Answered by
    /// [`FromShim::Signalled`].
    Signal {
        /// The writer.
        from: String,
        /// Its number, counted from 1 by that writer.
        n: u64,
        /// A name or number.
        signal: String,
    },
    /// A writer sees the terminal at another size. Answered by [`FromShim::Resized`].
    Resize {
        /// The writer.
        from: String,
        /// Its number, counted from 1 by that writer: an older one changes nothing.
        n: u64,
        /// The size.
        #[serde(flatten)]
        size: TtySize,
    },
    /// The whole tree is to be stopped, and that is how the job ended, unless it has ended already.
    Stop {
        /// How it will have ended. One that this version does not know still stops it.
        #[serde(deserialize_with = "ending_or_cancelled")]
        ending: Ending,
    },
    /// Output that the command, which has ended, has left to other processes is waited for no longer.
    Release {},
    /// What does the terminal show? Answered by [`FromShim::Screen`].
    Screen {
        /// To tell the answer by.
        ask: u64,
    },
    /// Somebody looks at the terminal, and has room for its output up to here: the command waits with the rest
    /// as it does for any terminal that is slower than it is. Holds for this connection.
    Pace {
        /// A combined offset; none where nobody need be waited for.
        until: Option<u64>,
    },
    /// From now on it is this writer's terminal that answers what the command asks. Answered by
    /// [`FromShim::Asked`], before any word of output that was read later.
    Asked {
        /// The writer.
        writer: String,
    },
    /// The session has another name now.
    Rename {
        /// The new one.
        name: Option<String>,
    },
    /// This writer will not write any more: nothing need be remembered of it.
    Forget {
        /// The writer.
        from: String,
    },
}

/// What a shim says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromShim {
    /// The command runs.
    Started(ProcessKey),
    /// The command could not be started, nothing of it ran, and the shim ends. To the daemon that gave
    /// the order only.
    Failed(StartError),
    /// The first word of a connection.
    Hello(Box<Hello>),
    /// How far the log may be read.
    Log(LogExtent),
    /// What a writer should know of its input.
    Want {
        /// The writer.
        from: String,
        /// What it should know.
        #[serde(flatten)]
        want: StdinCredit,
    },
    /// A signal was applied.
    Signalled {
        /// The writer.
        from: String,
        /// Its number.
        n: u64,
        /// Why it could not be applied, if it could not.
        #[serde(default)]
        error: Option<String>,
    },
    /// A size was applied, or was not.
    Resized {
        /// The writer.
        from: String,
        /// Its number.
        n: u64,
        /// Why it could not be applied, if it could not.
        #[serde(default)]
        error: Option<String>,
    },
    /// What the terminal shows.
    Screen(ScreenSnapshot),
    /// From a place on it is this writer's terminal that answers what the command asks.
    Asked(ResponderFrom),
    /// From a place on the terminal has this size. Before any word of output that was read later.
    Sized(SizeFrom),
    /// Something holds the job up, such as a full disk, or no longer does.
    Trouble {
        /// What it is; none when it is over.
        #[serde(default)]
        why: Option<String>,
    },
    /// A task begins with this step.
    Step(StepProgress),
    /// The command has ended, and processes that it has started hold its output, which is waited for; or no longer.
    Waiting {
        /// The processes, where they can be seen; none where nothing is waited for.
        #[serde(default)]
        on: Option<Vec<OutputHolder>>,
    },
    /// The job is over, [`JobEnd`] is written, and the shim ends.
    Ended(Box<JobEnd>),
}

/// How a job stands, to whoever comes to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub v: u32,
    /// The job.
    pub job: JobId,
    /// The shim itself.
    pub shim: ProcessKey,
    /// The command, once it runs.
    #[serde(default)]
    pub process: Option<ProcessKey>,
    /// How far it is.
    pub state: ShimState,
    /// How far its log may be read.
    pub log: LogExtent,
    /// The size of its terminal, if it has one.
    #[serde(default)]
    pub tty: Option<TtySize>,
    /// The name of the session.
    #[serde(default)]
    pub name: Option<String>,
    /// Who has written, and how far that has come.
    #[serde(default)]
    pub writers: Vec<WriterState>,
    /// What holds the job up, if anything does.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Whose terminal answers what the command asks, as far as is remembered, in order; none where this is not known
    /// here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Vec<ResponderFrom>>,
    /// How far it is, where it is a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepProgress>,
    /// The sizes of its terminal, as far as they are remembered, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<SizeFrom>,
    /// Whose output is waited for after the command's own end, as in [`FromShim::Waiting`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Vec<OutputHolder>>,
}

/// From a place of the output on it is this writer who is asked what the command asks its terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponderFrom {
    /// The place: a combined offset.
    pub at: u64,
    /// The writer.
    pub writer: String,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimState {
    /// Its process is being made.
    Starting,
    /// Its process runs, or its output is not all read.
    Running,
    /// It is over; [`FromShim::Ended`] follows as soon as that is written down.
    Ended,
}

/// How far a log may be read: how much of each stream was written, and where what is held begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogExtent {
    /// Bytes of stdout.
    pub out: u64,
    /// Bytes of stderr.
    pub err: u64,
    /// Bytes of stdout that are no longer held.
    pub first_out: u64,
    /// Bytes of stderr that are no longer held.
    pub first_err: u64,
}

impl LogExtent {
    /// How much was written.
    #[must_use]
    pub fn totals(self) -> StreamOffsets {
        StreamOffsets { out: self.out, err: self.err }
    }

    /// Where what is held begins.
    #[must_use]
    pub fn first(self) -> StreamOffsets {
        StreamOffsets { out: self.first_out, err: self.first_err }
    }
}

/// What a shim remembers of one writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterState {
    /// Who it is.
    pub from: String,
    /// How far its input has come.
    #[serde(flatten)]
    pub want: StdinCredit,
    /// The number of its last signal.
    #[serde(default)]
    pub signals: u64,
    /// The number of its last size.
    #[serde(default)]
    pub resizes: u64,
}

/// What a terminal shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScreenSnapshot {
    /// The number of the question.
    pub ask: u64,
    /// How much of the job's output it shows: its combined offset.
    pub at: u64,
    /// What brings any terminal of this size to the same picture.
    #[serde(with = "base64_text")]
    pub data: Bytes,
    /// Its size; none when there is no terminal.
    #[serde(default)]
    pub size: Option<TtySize>,
    /// Why there is nothing to show, if there is not.
    #[serde(default)]
    pub error: Option<String>,
}

/// A shim, in its own words. Written before the command is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShimInfo {
    /// [`VERSION`].
    pub v: u32,
    /// The job.
    pub job: JobId,
    /// The shim itself.
    pub shim: ProcessKey,
    /// The version of the program it is.
    pub version: String,
    /// Where the job's processes live.
    pub job_scope: JobScope,
    /// The size of the terminal it began with, if it has one.
    #[serde(default)]
    pub tty: Option<TtySize>,
    /// The name of the session.
    #[serde(default)]
    pub name: Option<String>,
    /// Most bytes of output that are kept.
    pub log_limit: u64,
    /// When the shim began, UTC.
    pub started_at: String,
    /// The command, once it runs.
    #[serde(default)]
    pub process: Option<ProcessKey>,
}

/// How a job ended, with all that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobEnd {
    /// [`VERSION`].
    pub v: u32,
    /// How it ended.
    #[serde(deserialize_with = "ending_or_unknown")]
    pub ending: Ending,
    /// All it wrote to stdout.
    pub out: StreamTotal,
    /// All it wrote to stderr.
    pub err: StreamTotal,
    /// How much of both is no longer held.
    pub first: StreamOffsets,
    /// Processes of the job that had to be stopped.
    pub killed: u32,
    /// How many of these did not end when they were asked to, and were killed.
    #[serde(default, skip_serializing_if = "exec::is_zero")]
    pub forced: u32,
    /// Processes of the job that go on; one at least where nobody could look.
    pub left_running: u32,
    /// Those of them that could not be stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hung: Vec<HungProcess>,
    /// Whether a process that goes on still holds the output open; what it writes is discarded.
    pub output_open: bool,
    /// Such processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_by: Vec<OutputHolder>,
    /// Why output is missing that was still to come when the command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_cut: Option<String>,
    /// What the command used; none when it was not started.
    #[serde(default)]
    pub rusage: Option<Rusage>,
    /// From the start of the process to its end, in milliseconds.
    pub duration_ms: u64,
    /// When, UTC.
    pub ended_at: String,
}

impl JobEnd {
    /// What those who wait for the job are told.
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

/// A newer version may know more endings than this one; what they are to is not to be missed for it.
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

/// Bytes as text.
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
