//! One job on one peer, from the caller's end.
//!
//! [`start`] hands the request to a task of its own, the conversation, which asks, repeats, grants
//! credit, resumes after losses and in the end compares the books. The owner of the [`Execution`]
//! takes [`Event`]s, writes output where it belongs, and says so with [`Steering::wrote`]: only
//! then does the peer get more credit, so a stopped pager stops the command.
//!
//! ```text
//!   Asking ──accepted──► Streaming ◄──accepted── Resuming      Ended: exactly one Outcome
//!     │ no answer            │  gap, silence, 503, new link ▲
//!     ▼                      └──────────────────────────────┘
//!   Withdrawing ── never_seen: surely not run · no word: unknown
//! ```

mod conversation;
mod feed;
mod ledger;
mod phase;

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::bus::Bus;
use crate::protocol::exec::{ExecRequest, JobResult};
use crate::protocol::frame::StreamKind;
use crate::protocol::{Ending, JobId, PeerId};

/// Something the owner of an execution is told.
#[derive(Debug)]
pub enum Event {
    /// The peer has the job.
    Accepted,
    /// New output, in order. To be written and reported with [`Steering::wrote`].
    Output {
        /// Which output.
        stream: StreamKind,
        /// The bytes.
        bytes: Bytes,
    },
    /// The peer is silent; the conversation tries to go on.
    Interrupted(String),
    /// The peer is back.
    Resumed,
    /// The end. Nothing follows.
    Ended(Box<Outcome>),
}

/// How an execution ended, and whether its output is whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The ending.
    pub ending: Ending,
    /// All the peer said of it, where it said something.
    pub result: Option<JobResult>,
    /// Whether all output arrived.
    pub integrity: Integrity,
}

impl Outcome {
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
enum Word {
    Wrote { stream: StreamKind, bytes: usize },
    Signal(String),
    Cancel(String),
    Forget,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a peer that is not on the bus to appear.
    pub absent: Duration,
}

/// A job being followed.
pub struct Execution {
    job: JobId,
    events: mpsc::UnboundedReceiver<Event>,
    steering: Steering,
}

/// The steering half of an execution; cheap to clone, for other tasks and threads.
#[derive(Clone)]
pub struct Steering {
    words: mpsc::UnboundedSender<Word>,
}

/// Starts a job on a peer. `stdin` is where standard input comes from, chunk by chunk, and ends
/// when its sender is dropped; it is read only where the request says so.
#[must_use]
pub fn start(
    bus: &Bus,
    peer: PeerId,
    request: ExecRequest,
    stdin: mpsc::Receiver<Bytes>,
    patience: Patience,
) -> Execution {
    let job = request.id.unwrap_or_default();
    let request = ExecRequest { id: Some(job), ..request };
    let (tell, events) = mpsc::unbounded_channel();
    let (words, listen) = mpsc::unbounded_channel();
    tokio::spawn(conversation::hold(
        bus.clone(),
        peer,
        request,
        patience,
        conversation::Ends { tell, listen, stdin },
    ));
    Execution { job, events, steering: Steering { words } }
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
    pub fn steering(&self) -> Steering {
        self.steering.clone()
    }
}

impl Steering {
    /// Reports that a piece of output was written (or discarded on purpose).
    pub fn wrote(&self, stream: StreamKind, bytes: usize) {
        self.say(Word::Wrote { stream, bytes });
    }

    /// Sends the command a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        self.say(Word::Signal(name.to_owned()));
    }

    /// Stops the job with its whole tree. The execution goes on to its ending.
    pub fn cancel(&self, why: &str) {
        self.say(Word::Cancel(why.to_owned()));
    }

    /// Stops waiting: the ending is unknown.
    pub fn forget(&self) {
        self.say(Word::Forget);
    }

    fn say(&self, word: Word) {
        // The conversation may have ended; then there is nothing left to steer.
        let _ = self.words.send(word);
    }
}
