//! The audit log: who asked this peer for what, what was decided, and what became of it.
//!
//! ```text
//!  admission, refusals, endings ──► writer (one task, in order) ──► pen ──► log ──► 000…1.jsonl
//!  malformed ──► counted ──────────────┘                                      └──► audit.head
//!  exec.<peer>.audit, `d audit verify` ◄── reading ◄─────────────────────────────────┘
//! ```
//! One line when a request was allowed and one when its command has ended, or one when it was
//! refused; what cannot be read is counted. Guarantees: a command is not started before the line
//! that it was allowed is written, or counted as one that could not be; a daemon that is killed
//! leaves that line, and the next one writes how the job ended; the lines are a chain
//! ([`peerbus_protocol::audit::chain`]) across rotated files. Values of variables are never written.
//!
//! An principal that is proved fills only its share of the log (`share`), and a line is never longer than one may be.
//!
//! Limits: nothing is forced to disk, so a machine that loses its power may lose the last lines,
//! and then the log says that they are missing. Whoever can write here, root or the daemon's own
//! user, can write another log that is sound in itself: what they cannot change is what others have
//! heard, so every heartbeat carries the head, and a leader remembers how far it went.

mod answer;
mod appender;
mod checkpoint;
mod files;
mod log;
mod quotas;
mod reading;
mod recovery;
mod reject_summary;
mod writer;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::request_summary::ControlSummary;

use peerbus_protocol::audit::{
    AuditEvent, AuditQuery, AuditedControl, AuditedOutcome, AuditedRequest, Checkpoint,
};
use peerbus_protocol::control::Control;
use peerbus_protocol::ending::sentence;
use peerbus_protocol::identity::{Name, Principal};
use peerbus_protocol::{Ending, Instance, JobId};

pub(super) use answer::{WAITING, answer};
use appender::Appender;
pub(super) use appender::Place;
pub use log::{SIZE, SIZE_MIN};
use quotas::Quotas;
pub use reading::verify;
use writer::{Capped, Kind, Shared, WriterCommand, locked};

/// Lines that may wait to be written. Who has more to write waits; there are at most about as many
/// jobs attended to at once.
const WAITING_LINES: usize = 4_096;

/// How a daemon keeps its log.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes of all its files together.
    pub size: u64,
    /// Whether a request is refused where that cannot be written down.
    pub required: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { size: SIZE, required: false }
    }
}

/// The log of one daemon, to write to.
#[derive(Debug)]
pub(super) struct Audit {
    orders: mpsc::Sender<WriterCommand>,
    shared: Arc<Shared>,
    shares: Mutex<Quotas>,
    state_dir: PathBuf,
    instance: Option<Instance>,
    required: bool,
}

impl Audit {
    /// The log of a daemon with these settings, once it is open: the first heartbeat says how far it goes.
    pub(super) async fn of(daemon: &super::DaemonSettings, instance: Instance) -> Self {
        let Settings { size, required } = daemon.audit;
        let (state_dir, peer) = (daemon.state_dir.clone(), daemon.peer.clone());
        let audit = Self::open(Place { state_dir, peer, size, instance: Some(instance) }, required);
        audit.flush().await;
        audit
    }

    /// Opens a log, and says what is wrong with it; tried again at each line where it cannot be.
    pub(super) fn open(place: Place, required: bool) -> Self {
        let (orders, waiting) = mpsc::channel(WAITING_LINES);
        let shared = Arc::new(Shared::default());
        let shares = Mutex::new(Quotas::of(place.size));
        let (state_dir, instance) = (place.state_dir.clone(), place.instance);
        tokio::spawn(writer::run(waiting, Arc::clone(&shared), Appender::new(place)));
        Self { orders, shared, shares, state_dir, instance, required }
    }

    /// Whether there is room for what somebody asks for.
    ///
    /// # Errors
    /// How long it takes until there is.
    pub(super) fn has_room(&self, principal: &Principal) -> Result<(), Duration> {
        match principal {
            Principal::Known { name, .. } => locked(&self.shares).has_room(name, Instant::now()),
            Principal::Anyone => Ok(()),
        }
    }

    fn fill(&self, principal: Option<&Name>, event: &AuditEvent) {
        if let Some(principal) = principal {
            locked(&self.shares).fill(principal, log::length(event), Instant::now());
        }
    }

    /// A request was allowed. Returns when that is written.
    ///
    /// # Errors
    /// When it cannot be written, and the request is to be refused for that.
    pub(super) async fn begun(&self, request: AuditedRequest) -> Result<(), String> {
        match self.write(request.principal.clone().as_ref(), AuditEvent::Begun(request)).await {
            Err(why) if self.required => Err(why),
            // Said when it was counted as lost.
            _ => Ok(()),
        }
    }

    /// A command has ended, or could not be started. Returns when that is written: the journal closes
    /// its record only then, or a daemon that is killed in between would leave a begin without an end.
    pub(super) async fn ended(&self, request: AuditedRequest, outcome: AuditedOutcome) {
        // Said when it was counted as lost.
        let _ = self.write(request.principal.clone().as_ref(), AuditEvent::Ended { request, outcome }).await;
    }

    async fn write(&self, principal: Option<&Name>, event: AuditEvent) -> Result<(), String> {
        self.fill(principal, &event);
        let (done, written) = oneshot::channel();
        self.say(WriterCommand::Write(Box::new(event), done)).await;
        written.await.unwrap_or_else(|_| Err("its writer has ended".to_owned()))
    }

    /// A request was refused.
    pub(super) async fn refused(&self, request: AuditedRequest, ending: Ending) {
        let (principal, caller, why) =
            (request.principal.clone(), request.caller.clone(), ending.to_string());
        self.capped(principal, AuditEvent::Refused { request, ending }, caller, why).await;
    }

    /// Somebody did something with a job that was there already.
    pub(super) async fn steered(&self, steered: AuditedControl) {
        let (principal, caller) = (steered.principal.clone(), steered.caller.clone());
        let why = format!("{} {}", steered.word, steered.detail.as_deref().unwrap_or_default());
        self.capped(principal, AuditEvent::Steered(steered), caller, why).await;
    }

    /// Somebody may not do what a word about a job would have done. Words that do nothing to a job leave no line.
    pub(super) async fn control_refused(
        &self,
        (job, owner): (JobId, Option<&Principal>),
        word: &Control,
        (caller, principal): (&str, &Principal),
        why: &str,
    ) {
        let Some(what) = ControlSummary::of(word) else { return };
        let control = what.by(job, caller, principal, owner);
        let (principal, caller, why) =
            (control.principal.clone(), control.caller.clone(), sentence(why.to_owned()));
        let example = format!("{}: {why}", control.word);
        self.capped(principal, AuditEvent::SteerRefused { control, why }, caller, example).await;
    }

    /// A line of which there may be any number: beyond a rate, and beyond the principal's share, they are counted.
    async fn capped(&self, principal: Option<Name>, event: AuditEvent, caller: String, why: String) {
        let has_room = principal
            .as_ref()
            .is_none_or(|principal| locked(&self.shares).has_room(principal, Instant::now()).is_ok());
        if has_room {
            self.fill(principal.as_ref(), &event);
        }
        let whole = has_room.then(|| Box::new(event.clone()));
        let kind = Kind::of(&event);
        self.say(WriterCommand::Capped(Capped { kind, whole, principal, caller, why })).await;
    }

    /// A request could not be read. Waits for nothing.
    pub(super) fn malformed(&self, caller: Option<&str>, why: &str) {
        locked(&self.shared.malformed).add(None, caller, why);
        self.shared.rung.notify_one();
    }

    /// How far the log goes; none where it cannot be written.
    pub(super) fn head(&self) -> Option<Checkpoint> {
        locked(&self.shared.head).clone()
    }

    /// Returns when everything said so far is written.
    async fn flush(&self) {
        let (done, written) = oneshot::channel();
        self.say(WriterCommand::Tell(done)).await;
        // A writer that has ended has said so itself.
        let _ = written.await;
    }

    /// The jobs whose end was written lately, by this daemon or the one before.
    pub(super) async fn ended_lately(&self) -> std::io::Result<HashSet<JobId>> {
        self.flush().await;
        let state_dir = self.state_dir.clone();
        let read = tokio::task::spawn_blocking(move || reading::ended_lately(&state_dir));
        read.await.map_err(std::io::Error::other)?
    }

    /// Whether the end of a job was written lately.
    pub(super) async fn has_told(&self, job: JobId) -> bool {
        self.ended_lately().await.map_or_else(
            |error| {
                tracing::error!(%error, "reading the audit log");
                false
            },
            |ended| ended.contains(&job),
        )
    }

    /// A page for who asks, read behind everything said so far.
    async fn page(
        &self,
        query: AuditQuery,
        room: usize,
    ) -> std::io::Result<(reading::Read, Option<Checkpoint>)> {
        self.flush().await;
        let (head, state_dir) = (self.head(), self.state_dir.clone());
        let read = tokio::task::spawn_blocking(move || reading::page(&state_dir, &query, room));
        Ok((read.await.map_err(std::io::Error::other)??, head))
    }

    /// The daemon goes: everything is written.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        self.say(WriterCommand::Close(self.instance, done)).await;
        // A writer that has ended has said so itself.
        let _ = closed.await;
    }

    async fn say(&self, order: WriterCommand) {
        if self.orders.send(order).await.is_err() {
            tracing::error!("a line of the audit log is lost: its writer has ended");
        }
    }
}

/// Now, as lines have it.
fn now() -> String {
    shown(jiff::Timestamp::now())
}

fn shown(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A time of a question.
fn time(text: &str) -> Result<jiff::Timestamp, String> {
    text.parse().map_err(|_| format!("field `since`: {text:?} is no time such as 2026-11-21T10:11:12Z"))
}

/// Where a log is, for people.
#[must_use]
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join(files::FOLDER)
}
