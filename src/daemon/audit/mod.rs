//! The audit log: who requested what from this peer, the decision, and the outcome.
//!
//! ```text
//!  admission, refusals, endings ──► writer (one task, in order) ──► appender ──► log ──► 000…1.jsonl
//!  malformed ──► counted ──────────────┘                                           └──► audit.head
//!  exec.<peer>.audit, `d audit verify` ◄── reading ◄──────────────────────────────────────┘
//! ```
//! An allowed request gets one line, and one more when its command has ended. A refused request gets one line.
//! Malformed requests are counted.
//!
//! Guarantees:
//! - A command starts only after the line that allows it was written, or counted as lost.
//! - A killed daemon leaves that line, and the next daemon writes how the job ended.
//! - The lines form a hash chain ([`peerbus_protocol::audit::chain`]) across rotated files.
//! - The log never contains values of variables.
//! - A proved principal can fill only its share of the log (`quotas`).
//! - No line is longer than the maximum.
//!
//! Limits: nothing is forced to disk, so a machine that loses power may lose the last lines; the log then says that
//! lines are missing. Root and the daemon's own user can replace the log by another consistent one. They cannot
//! change what others have received: every heartbeat carries the head, and a leader remembers it.

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

/// Lines that may wait for the writer. Senders of further lines wait. At most about as many jobs have a task at
/// once.
const WAITING_LINES: usize = 4_096;

/// Settings of the log.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Maximum bytes of all files together.
    pub size: u64,
    /// Whether a request is refused if its line cannot be written.
    pub required: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { size: SIZE, required: false }
    }
}

/// The write side of a daemon's log.
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
    /// Opens the log of a daemon with these settings. The first heartbeat already reports its head.
    pub(super) async fn of(daemon: &super::DaemonSettings, instance: Instance) -> Self {
        let Settings { size, required } = daemon.audit;
        let (state_dir, peer) = (daemon.state_dir.clone(), daemon.peer.clone());
        let audit = Self::open(Place { state_dir, peer, size, instance: Some(instance) }, required);
        audit.flush().await;
        audit
    }

    /// Opens a log and logs any error. A log that cannot be opened is tried again at each line.
    pub(super) fn open(place: Place, required: bool) -> Self {
        let (orders, waiting) = mpsc::channel(WAITING_LINES);
        let shared = Arc::new(Shared::default());
        let shares = Mutex::new(Quotas::of(place.size));
        let (state_dir, instance) = (place.state_dir.clone(), place.instance);
        tokio::spawn(writer::run(waiting, Arc::clone(&shared), Appender::new(place)));
        Self { orders, shared, shares, state_dir, instance, required }
    }

    /// Whether a principal has room in the log.
    ///
    /// # Errors
    /// How long until it has room.
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

    /// Records that a request was allowed. Returns after the line is written.
    ///
    /// # Errors
    /// If it cannot be written and the request must be refused for that.
    pub(super) async fn begun(&self, request: AuditedRequest) -> Result<(), String> {
        match self.write(request.principal.clone().as_ref(), AuditEvent::Begun(request)).await {
            Err(why) if self.required => Err(why),
            // Logged when it was counted as lost.
            _ => Ok(()),
        }
    }

    /// Records that a command has ended or could not start. Returns after the line is written. The journal closes
    /// its record only then; otherwise a killed daemon would leave a start without an end.
    pub(super) async fn ended(&self, request: AuditedRequest, outcome: AuditedOutcome) {
        // Logged when it was counted as lost.
        let _ = self.write(request.principal.clone().as_ref(), AuditEvent::Ended { request, outcome }).await;
    }

    async fn write(&self, principal: Option<&Name>, event: AuditEvent) -> Result<(), String> {
        self.fill(principal, &event);
        let (done, written) = oneshot::channel();
        self.say(WriterCommand::Write(Box::new(event), done)).await;
        written.await.unwrap_or_else(|_| Err("its writer has ended".to_owned()))
    }

    /// Records that a request was refused.
    pub(super) async fn refused(&self, request: AuditedRequest, ending: Ending) {
        let (principal, caller, why) =
            (request.principal.clone(), request.caller.clone(), ending.to_string());
        self.capped(principal, AuditEvent::Refused { request, ending }, caller, why).await;
    }

    /// Records a control action on an existing job.
    pub(super) async fn steered(&self, steered: AuditedControl) {
        let (principal, caller) = (steered.principal.clone(), steered.caller.clone());
        let why = format!("{} {}", steered.word, steered.detail.as_deref().unwrap_or_default());
        self.capped(principal, AuditEvent::Steered(steered), caller, why).await;
    }

    /// Records a denied control action. Messages without an effect on a job leave no line.
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

    /// Writes a line that clients can cause in any number. Beyond a rate and the principal's share, such lines are
    /// counted.
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

    /// Counts a malformed request. Does not block.
    pub(super) fn malformed(&self, caller: Option<&str>, why: &str) {
        locked(&self.shared.malformed).add(None, caller, why);
        self.shared.rung.notify_one();
    }

    /// The head of the log. `None` if the log cannot be written.
    pub(super) fn head(&self) -> Option<Checkpoint> {
        locked(&self.shared.head).clone()
    }

    /// Returns after all earlier lines are written.
    async fn flush(&self) {
        let (done, written) = oneshot::channel();
        self.say(WriterCommand::Tell(done)).await;
        // A writer that has ended has logged that itself.
        let _ = written.await;
    }

    /// The jobs whose ending was written recently, by this daemon or the previous one.
    pub(super) async fn ended_lately(&self) -> std::io::Result<HashSet<JobId>> {
        self.flush().await;
        let state_dir = self.state_dir.clone();
        let read = tokio::task::spawn_blocking(move || reading::ended_lately(&state_dir));
        read.await.map_err(std::io::Error::other)?
    }

    /// Whether the ending of a job was written recently.
    pub(super) async fn has_told(&self, job: JobId) -> bool {
        self.ended_lately().await.map_or_else(
            |error| {
                tracing::error!(%error, "reading the audit log");
                false
            },
            |ended| ended.contains(&job),
        )
    }

    /// One page for a client, read after all earlier lines are written.
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

    /// Writes all lines when the daemon shuts down.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        self.say(WriterCommand::Close(self.instance, done)).await;
        // A writer that has ended has logged that itself.
        let _ = closed.await;
    }

    async fn say(&self, order: WriterCommand) {
        if self.orders.send(order).await.is_err() {
            tracing::error!("a line of the audit log is lost: its writer has ended");
        }
    }
}

/// The current time in the format of lines.
fn now() -> String {
    shown(jiff::Timestamp::now())
}

fn shown(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Parses the time of a query.
fn time(text: &str) -> Result<jiff::Timestamp, String> {
    text.parse().map_err(|_| format!("field `since`: {text:?} is no time such as 2026-11-21T10:11:12Z"))
}

/// The directory of a log, for display.
#[must_use]
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join(files::FOLDER)
}
