//! One job on one peer, from the caller's end.
//!
//! [`start`] hands the request to a task of its own, the conversation, which asks, repeats, grants
//! credit, resumes after losses and in the end compares the books. [`attach`] does the same for a durable job
//! that somebody has started: another question, and from its answer on the same conversation. The owner of the [`Execution`]
//! takes [`Event`]s, writes output where it belongs, and says so with [`ExecutionHandle::wrote`]: only
//! then does the peer get more credit, so a stopped pager stops the command.
//!
//! ```text
//!   Asking ──accepted──► Streaming ◄──accepted── Resuming      Ended: exactly one Outcome
//!     │ no answer            │  gap, silence, 503, new link ▲
//!     ▼                      └──────────────────────────────┘
//!   Withdrawing ── never_seen: surely not run · no word: unknown
//! ```
//! A durable job does not end with its caller: who leaves it, or is silent for too long, can attach later. When the
//! peer's daemon is restarted or replaced meanwhile, the conversation resumes with its successor.

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

/// Something the owner of an execution is told.
#[derive(Debug)]
pub enum Event {
    /// The peer has the job. For a durable one: it runs, or has ended.
    Accepted(Accepted),
    /// What draws the terminal as it stands; output follows. To be written, not to be reported.
    Screen(Bytes),
    /// New output, in order. To be written and reported with [`ExecutionHandle::wrote`].
    Output {
        /// Which output.
        stream: StreamKind,
        /// Where the first of them stands: a combined offset.
        at: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Who answers what the command asks its terminal, from which place of the output on. Until it is said the first
    /// time, everybody who writes.
    Asked(Responder),
    /// How large the terminal is, from which place of the output on.
    Sized(Sizes),
    /// Output that is no longer kept: what follows comes after it. Only whoever attached is told so.
    NotKept {
        /// Which output.
        stream: StreamKind,
        /// How much of it.
        bytes: u64,
    },
    /// The command has ended, and processes that it has started hold its output, which is waited for. Said once for a
    /// command; empty where the peer cannot see them.
    Waiting(Vec<OutputHolder>),
    /// The peer is silent; the conversation tries to go on.
    Interrupted(String),
    /// The peer is back.
    Resumed,
    /// The end. Nothing follows.
    Ended(Box<Completion>),
    /// The job was left as it is. Nothing follows.
    Detached {
        /// How many bytes of its output came, and where one may attach to go on: a combined offset.
        at: u64,
        /// Who wanted that, where it was somebody else: its proved name, or what it says of itself.
        by: Option<String>,
    },
}

/// How an execution ended, and whether its output is whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The ending.
    pub ending: Ending,
    /// All the peer said of it, where it said something.
    pub result: Option<JobResult>,
    /// Whether all output arrived.
    pub integrity: Integrity,
}

impl Completion {
    fn without_result(ending: Ending) -> Self {
        Self { ending, result: None, integrity: Integrity::Whole }
    }
}

/// Whether all output arrived, as totals and digests tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Integrity {
    /// To the byte.
    Whole,
    /// Not; the sentence says what is missing.
    Damaged(String),
}

/// What the owner of an execution may say.
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

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a peer that is not on the bus to appear.
    pub absent: Duration,
}

/// How to attach to a durable job.
#[derive(Debug, Clone)]
pub struct AttachOptions {
    /// Where its output is wanted from.
    pub from: AttachFrom,
    /// Most bytes of output on their way.
    pub window: u64,
    /// Whether to write to it too: standard input, signals, sizes.
    pub write: bool,
    /// The size of the terminal it is looked at in.
    pub tty: Option<TtySize>,
    /// Whether it is left before its end, so that what was seen until then has to be proved, piece by piece.
    pub sealed: bool,
    /// The jobs from within which it is followed: see [`super::jobs::chain`].
    pub within: Vec<Within>,
}

/// A job being followed.
pub struct Execution {
    job: JobId,
    events: mpsc::UnboundedReceiver<Event>,
    steering: ExecutionHandle,
}

/// The steering half of an execution; cheap to clone, for other tasks and threads.
#[derive(Clone)]
pub struct ExecutionHandle {
    words: mpsc::UnboundedSender<ControlCommand>,
}

/// Starts a job on a peer. `stdin` is where standard input comes from, chunk by chunk, and ends
/// when its sender is dropped; it is read only where the request says so.
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

/// Attaches to a durable job, whoever has started it and whether it still runs. `stdin` is read only where `how`
/// says that this writes. Refusals are [`Ending::Refused`] with the words `NotDurable`, `NoSuchJob` and `NotYours`.
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

/// What a conversation begins with.
#[derive(Debug)]
enum Start {
    /// Run this.
    Exec { request: Bytes, window: u64, durable: bool, within: Vec<Within> },
    /// Let me read, and perhaps write.
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

    /// The next event; none after the end.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The steering half.
    #[must_use]
    pub fn steering(&self) -> ExecutionHandle {
        self.steering.clone()
    }
}

impl ExecutionHandle {
    /// Reports that a piece of output was written (or discarded on purpose).
    pub fn wrote(&self, stream: StreamKind, bytes: usize) {
        self.say(ControlCommand::Wrote { stream, bytes });
    }

    /// Interrupts all the command has started. Where it has ended, and is told to have left its output to others, those go
    /// on and are waited for no longer.
    pub fn interrupt(&self) {
        self.say(ControlCommand::Interrupt);
    }

    /// Kills all the command has started, with the same exception; where they were let go already, stops waiting.
    pub fn kill(&self) {
        self.say(ControlCommand::Kill);
    }

    /// Stops the job with its whole tree. The execution goes on to its ending.
    pub fn cancel(&self, why: &str) {
        self.say(ControlCommand::Cancel(why.to_owned()));
    }

    /// Says that the terminal has another size now.
    pub fn resize(&self, size: TtySize) {
        self.say(ControlCommand::Resize(size));
    }

    /// Says that nobody can read the output any more: a command that was started for it is stopped, one that was
    /// attached to is left.
    pub fn output_closed(&self) {
        self.say(ControlCommand::OutputClosed);
    }

    /// Says that standard input broke off in its middle: a command that was started with it is stopped, one that was
    /// attached to is left.
    pub fn input_lost(&self) {
        self.say(ControlCommand::InputLost);
    }

    /// Leaves a durable job as it is. One that ends with its caller is stopped.
    pub fn detach(&self) {
        self.say(ControlCommand::Detach);
    }

    /// Stops waiting: the ending is unknown.
    pub fn forget(&self) {
        self.say(ControlCommand::Forget);
    }

    fn say(&self, word: ControlCommand) {
        // The conversation may have ended; then there is nothing left to steer.
        let _ = self.words.send(word);
    }
}
