//! One job on one peer, from the caller's side.
//!
//! [`start`] spawns a task, the driver. It sends the request, repeats it, grants credit, resumes after
//! losses and finally compares totals and digests. [`attach`] does the same for an existing durable
//! job, with another first request. The owner of the [`Execution`] receives [`Event`]s, writes the
//! output, and confirms each piece with [`ExecutionHandle::wrote`]. Only then does the peer get more
//! credit, so a stopped pager stops the command.
//!
//! ```text
//!   Asking ──accepted──► Streaming ◄──accepted── Resuming      Ended: exactly one Ending
//!     │ no answer            │  gap, silence, 503, new link ▲
//!     ▼                      └──────────────────────────────┘
//!   Withdrawing ── never_seen: surely not run · no answer: unknown
//! ```
//! A durable job survives its caller: a caller that detaches or stays silent too long can attach later.
//! If the peer's daemon restarts or upgrades, the driver resumes with the new daemon.

mod driver;
mod phase;
mod recv_window;
mod stdin_sender;

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use peerbus_bus::Bus;
use peerbus_protocol::attach::{AttachFrom, Responder, Sizes, Within};
use peerbus_protocol::exec::{ExecRequest, JobResult, OutputHolder, WINDOW};
use peerbus_protocol::frame::{Accepted, StreamKind};
use peerbus_protocol::tty::TtySize;
use peerbus_protocol::{Ending, JobId, PeerId, decode};

/// An event for the owner of an execution.
#[derive(Debug)]
pub enum Event {
    /// The peer has accepted the job. A durable job is running or has ended.
    Accepted(Accepted),
    /// Bytes that redraw the terminal; output follows. Write them, but do not confirm them.
    Screen(Bytes),
    /// New output, in order. Write it and confirm it with [`ExecutionHandle::wrote`].
    Output {
        /// The output stream.
        stream: StreamKind,
        /// The combined offset of the first byte.
        at: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Which viewer answers the terminal's queries, from which offset on. Until the first such event,
    /// every viewer that writes answers them.
    Asked(Responder),
    /// The size of the terminal, from which offset on.
    Sized(Sizes),
    /// The peer no longer keeps this output; later output follows. Only attached viewers get this
    /// event.
    NotKept {
        /// The output stream.
        stream: StreamKind,
        /// How many bytes are missing.
        bytes: u64,
    },
    /// The command has ended, and the job waits for processes that still hold its output. Sent once per
    /// command; empty if the peer cannot see the processes.
    Waiting(Vec<OutputHolder>),
    /// The peer is silent; the driver tries to resume.
    Interrupted(String),
    /// The peer answers again.
    Resumed,
    /// The job's end. The last event.
    Ended(Box<Completion>),
    /// The viewer detached from the job. The last event.
    Detached {
        /// How many bytes of output arrived: the combined offset to attach at later.
        at: u64,
        /// Who detached us, if someone else did: its proven name, or its own claim.
        by: Option<String>,
    },
}

/// How an execution ended, and whether its output is complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The ending.
    pub ending: Ending,
    /// The peer's result, if it sent one.
    pub result: Option<JobResult>,
    /// Whether all output arrived.
    pub integrity: Integrity,
}

impl Completion {
    fn without_result(ending: Ending) -> Self {
        Self { ending, result: None, integrity: Integrity::Whole }
    }
}

/// Whether all output arrived, by totals and digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Integrity {
    /// Every byte arrived.
    Whole,
    /// Output is missing or wrong; the sentence says which.
    Damaged(String),
}

/// Commands of the owner of an execution.
#[derive(Debug)]
enum ControlCommand {
    Wrote { stream: StreamKind, bytes: usize },
    Interrupt,
    Kill,
    Cancel(String),
    Resize(TtySize),
    OutputClosed,
    InputLost,
    Detach,
    Forget,
}

/// Timeouts.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// How long to wait for a peer that is not on the bus.
    pub absent: Duration,
}

/// How to attach to a durable job.
#[derive(Debug, Clone)]
pub struct AttachOptions {
    /// Where the output starts.
    pub from: AttachFrom,
    /// The window: most bytes of output in flight.
    pub window: u64,
    /// Whether to send stdin, signals and sizes too.
    pub write: bool,
    /// The size of the viewer's terminal.
    pub tty: Option<TtySize>,
    /// Whether the viewer detaches before the job's end. Then each frame must be signed, because no
    /// result proves them.
    pub sealed: bool,
    /// The jobs that display this viewer's output: see [`super::jobs::chain`].
    pub within: Vec<Within>,
}

/// A followed job.
pub struct Execution {
    job: JobId,
    events: mpsc::UnboundedReceiver<Event>,
    steering: ExecutionHandle,
}

/// Controls an execution; cheap to clone, for other tasks and threads.
#[derive(Clone)]
pub struct ExecutionHandle {
    words: mpsc::UnboundedSender<ControlCommand>,
}

/// Starts a job on a peer. `stdin` yields standard input in chunks and ends when its sender is dropped.
/// It is read only if the request asks for stdin.
#[must_use]
pub fn start(
    bus: &Bus,
    peer: PeerId,
    request: ExecRequest,
    stdin: mpsc::Receiver<Bytes>,
    patience: Timeouts,
) -> Execution {
    let job = request.id.unwrap_or_default();
    let request = ExecRequest { id: Some(job), ..request };
    follow(bus, peer, job, Start::of(&request), stdin, patience)
}

/// Attaches to a durable job, running or ended, even if another caller started it. `stdin` is read only
/// if `how` asks to write. Refusals are [`Ending::Refused`] with `NotDurable`, `NoSuchJob` or
/// `NotYours`.
#[must_use]
pub fn attach(
    bus: &Bus,
    peer: PeerId,
    job: JobId,
    how: AttachOptions,
    stdin: mpsc::Receiver<Bytes>,
    patience: Timeouts,
) -> Execution {
    follow(bus, peer, job, Start::Attach(how), stdin, patience)
}

/// The first request of an execution.
#[derive(Debug)]
enum Start {
    /// Run a command.
    Exec { request: Bytes, window: u64, durable: bool, within: Vec<Within> },
    /// Attach to a job.
    Attach(AttachOptions),
}

impl Start {
    fn of(request: &ExecRequest) -> Self {
        let window = request.stream.map_or(WINDOW, |stream| stream.window);
        let (durable, within) = (request.is_durable(), request.within.clone());
        Self::Exec { request: decode::to_json(request).into(), window, durable, within }
    }
}

fn follow(
    bus: &Bus,
    peer: PeerId,
    job: JobId,
    question: Start,
    stdin: mpsc::Receiver<Bytes>,
    patience: Timeouts,
) -> Execution {
    let (tell, events) = mpsc::unbounded_channel();
    let (words, listen) = mpsc::unbounded_channel();
    let ends = driver::Channels { tell, listen, stdin };
    tokio::spawn(driver::hold(bus.clone(), (peer, job), question, patience, ends));
    Execution { job, events, steering: ExecutionHandle { words } }
}

impl Execution {
    /// The job's id.
    #[must_use]
    pub fn job(&self) -> JobId {
        self.job
    }

    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// A handle that controls the execution.
    #[must_use]
    pub fn steering(&self) -> ExecutionHandle {
        self.steering.clone()
    }
}

impl ExecutionHandle {
    /// Confirms that a piece of output was written (or discarded on purpose).
    pub fn wrote(&self, stream: StreamKind, bytes: usize) {
        self.say(ControlCommand::Wrote { stream, bytes });
    }

    /// Interrupts all processes of the command. If the command has ended and only other processes hold
    /// its output, this leaves them running and stops waiting for them.
    pub fn interrupt(&self) {
        self.say(ControlCommand::Interrupt);
    }

    /// Kills all processes of the command, with the same exception; if they were released already,
    /// stops waiting.
    pub fn kill(&self) {
        self.say(ControlCommand::Kill);
    }

    /// Stops the job with its whole process tree. The execution continues until the ending.
    pub fn cancel(&self, why: &str) {
        self.say(ControlCommand::Cancel(why.to_owned()));
    }

    /// Reports a new size of the terminal.
    pub fn resize(&self, size: TtySize) {
        self.say(ControlCommand::Resize(size));
    }

    /// Reports that the output has no reader any more. Cancels a job that this execution started;
    /// detaches from one that it attached to.
    pub fn output_closed(&self) {
        self.say(ControlCommand::OutputClosed);
    }

    /// Reports that standard input broke off. Cancels a job that this execution started; detaches from
    /// one that it attached to.
    pub fn input_lost(&self) {
        self.say(ControlCommand::InputLost);
    }

    /// Detaches from a durable job. Cancels a job that is not durable.
    pub fn detach(&self) {
        self.say(ControlCommand::Detach);
    }

    /// Stops waiting; the ending is unknown.
    pub fn forget(&self) {
        self.say(ControlCommand::Forget);
    }

    fn say(&self, word: ControlCommand) {
        // The driver may have ended; then there is nothing left to control.
        let _ = self.words.send(word);
    }
}
