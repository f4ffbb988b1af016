//! The writer task: writes lines in order of arrival and summarizes floods.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::appender::Appender;
use super::reject_summary::{Counter, REFUSED_WHOLE, SUM_UP_EVERY};
use peerbus_protocol::Instance;
use peerbus_protocol::audit::{AuditEvent, Checkpoint, RejectSummary};
use peerbus_protocol::identity::Name;

/// Lines per batch. Each line is written separately, and the head once per batch.
const AT_ONCE: usize = 256;

/// A command to the writer.
pub(super) enum WriterCommand {
    /// Write a line and report whether it was written.
    Write(Box<AuditEvent>, oneshot::Sender<Result<(), String>>),
    /// Write a rate-limited line, or count it.
    Capped(Capped),
    /// Report when all earlier lines are written.
    Tell(oneshot::Sender<()>),
    /// The daemon shuts down.
    Close(Option<Instance>, oneshot::Sender<()>),
}

/// A rate-limited event.
pub(super) struct Capped {
    pub(super) kind: Kind,
    /// Its own line, if the rate allows one.
    pub(super) whole: Option<Box<AuditEvent>>,
    pub(super) principal: Option<Name>,
    pub(super) caller: String,
    pub(super) why: String,
}

/// The kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A refused request.
    Refused,
    /// A control message.
    Steered,
}

impl Kind {
    pub(super) fn of(event: &AuditEvent) -> Self {
        match event {
            AuditEvent::Steered(_) => Self::Steered,
            _ => Self::Refused,
        }
    }

    fn many(self) -> fn(RejectSummary) -> AuditEvent {
        match self {
            Self::Refused => AuditEvent::ManyRefused,
            Self::Steered => AuditEvent::ManySteered,
        }
    }
}

/// State shared with the senders of lines.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) head: Mutex<Option<Checkpoint>>,
    pub(super) malformed: Mutex<Counter>,
    /// Notified when something was counted.
    pub(super) rung: Notify,
}

/// Locks a mutex even if it is poisoned: the data is consistent at all times.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rate limit of one principal and one kind of event.
#[derive(Default)]
struct PrincipalBudget {
    counter: Counter,
    whole: u32,
    anew: Option<Instant>,
}

/// The rate limits of all principals. They are independent.
#[derive(Default)]
struct TotalBudget(HashMap<(Kind, Option<Name>), PrincipalBudget>);

impl TotalBudget {
    fn take(&mut self, capped: Capped) -> Option<AuditEvent> {
        let Capped { kind, whole, principal, caller, why } = capped;
        let one = self.0.entry((kind, principal.clone())).or_default();
        let now = Instant::now();
        if one.anew.is_none_or(|anew| anew <= now) {
            (one.whole, one.anew) = (0, Some(now + SUM_UP_EVERY));
        }
        match whole {
            Some(event) if one.whole < REFUSED_WHOLE => {
                one.whole += 1;
                Some(*event)
            }
            _ => {
                one.counter.add(principal.as_ref(), Some(&caller), &why);
                None
            }
        }
    }

    /// When the next summary is due.
    fn due(&self) -> Option<Instant> {
        self.0.values().filter_map(|one| one.counter.due()).min()
    }

    /// The summaries due now. Forgets idle principals.
    fn sums(&mut self, now: Instant) -> Vec<AuditEvent> {
        let sums = self.0.iter_mut().filter_map(|((kind, _), one)| one.counter.take(now, kind.many()));
        let sums = sums.collect();
        self.0.retain(|_, one| one.counter.due().is_some() || one.anew.is_some_and(|anew| anew > now));
        sums
    }

    /// All remaining summaries, due or not.
    fn rest(&mut self) -> Vec<AuditEvent> {
        self.0.drain().filter_map(|((kind, _), mut one)| one.counter.rest(kind.many())).collect()
    }
}

/// A line, and the channel that reports whether it was written.
type Line = (AuditEvent, Option<oneshot::Sender<Result<(), String>>>);

/// Writes until the daemon shuts down or no sender is left.
pub(super) async fn run(mut orders: mpsc::Receiver<WriterCommand>, shared: Arc<Shared>, mut pen: Appender) {
    let mut capped = TotalBudget::default();
    // Open the log at once, to log errors before the first request.
    let mut open = true;
    let mut batch = Vec::new();
    loop {
        let (lines, told) = sorted(std::mem::take(&mut batch), &shared, &mut capped, &mut open);
        let written = tokio::task::spawn_blocking(move || {
            write(&mut pen, lines);
            pen
        });
        pen = match written.await {
            Ok(pen) => pen,
            Err(panic) => return tracing::error!(%panic, "the audit log is written no more"),
        };
        locked(&shared.head).clone_from(&pen.head());
        for waits in told {
            // The receiver may be gone.
            let _ = waits.send(());
        }
        if !open {
            return;
        }
        let due = [locked(&shared.malformed).due(), capped.due(), retry_at(&pen)];
        tokio::select! {
            count = orders.recv_many(&mut batch, AT_ONCE) => open = count > 0,
            () = shared.rung.notified() => {}
            () = at(due.into_iter().flatten().min()) => {}
        }
    }
}

fn retry_at(pen: &Appender) -> Option<Instant> {
    pen.is_in_trouble().then(|| Instant::now() + SUM_UP_EVERY)
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Splits a batch into lines to write now and channels to notify afterwards.
fn sorted(
    batch: Vec<WriterCommand>,
    shared: &Shared,
    all: &mut TotalBudget,
    open: &mut bool,
) -> (Vec<Line>, Vec<oneshot::Sender<()>>) {
    let (mut lines, mut told): (Vec<Line>, Vec<_>) = (Vec::new(), Vec::new());
    let mut goes = None;
    for order in batch {
        match order {
            WriterCommand::Write(event, done) => lines.push((*event, Some(done))),
            WriterCommand::Capped(capped) => lines.extend(all.take(capped).map(|event| (event, None))),
            WriterCommand::Tell(done) => told.push(done),
            WriterCommand::Close(instance, done) => {
                *open = false;
                goes = instance;
                told.push(done);
            }
        }
    }
    let now = Instant::now();
    let mut malformed = locked(&shared.malformed);
    let (malformed, sums) = match *open {
        true => (malformed.take(now, AuditEvent::Malformed), all.sums(now)),
        false => (malformed.rest(AuditEvent::Malformed), all.rest()),
    };
    let last = goes.map(|instance| AuditEvent::Stopped { instance });
    lines.extend(malformed.into_iter().chain(sums).chain(last).map(|event| (event, None)));
    (lines, told)
}

/// Writes lines in order. Blocking.
fn write(pen: &mut Appender, lines: Vec<Line>) {
    if lines.is_empty() {
        pen.prepare();
    }
    let mut waiting = Vec::new();
    for (event, done) in lines {
        let written = pen.write(&event).map_err(|error| error.to_string());
        waiting.extend(done.map(|done| (done, written)));
    }
    pen.settle();
    for (done, written) in waiting {
        // The receiver may be gone.
        let _ = done.send(written);
    }
}
