//! The task that writes: it takes lines in the order in which they come, and sums up floods.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::appender::Appender;
use super::reject_summary::{Counter, REFUSED_WHOLE, SUM_UP_EVERY};
use peerbus_protocol::Instance;
use peerbus_protocol::audit::{AuditEvent, Checkpoint, RejectSummary};
use peerbus_protocol::identity::Name;

/// Lines taken in one go; each is written by itself, and the head once for all of them.
const AT_ONCE: usize = 256;

/// What the writer is asked to do.
pub(super) enum WriterCommand {
    /// To write a line, and to tell whether it was written.
    Write(Box<AuditEvent>, oneshot::Sender<Result<(), String>>),
    /// To write down something of which there may be any number, or count it.
    Capped(Capped),
    /// To say when everything before this was written.
    Tell(oneshot::Sender<()>),
    /// The daemon goes.
    Close(Option<Instance>, oneshot::Sender<()>),
}

/// Something of which there may be any number.
pub(super) struct Capped {
    pub(super) kind: Kind,
    /// Its line, where there may be one.
    pub(super) whole: Option<Box<AuditEvent>>,
    pub(super) principal: Option<Name>,
    pub(super) caller: String,
    pub(super) why: String,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A refused request.
    Refused,
    /// A word about a job.
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

/// What is shared with those who have something to write.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) head: Mutex<Option<Checkpoint>>,
    pub(super) malformed: Mutex<Counter>,
    /// Rung when something was counted.
    pub(super) rung: Notify,
}

/// Locks, also after a panic elsewhere: what is behind these locks is whole at any time.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one principal says of one kind, each a line until there are too many.
#[derive(Default)]
struct PrincipalBudget {
    counter: Counter,
    whole: u32,
    anew: Option<Instant>,
}

/// The same of all: what one says takes nothing from the others.
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

    /// When there is something to write down.
    fn due(&self) -> Option<Instant> {
        self.0.values().filter_map(|one| one.counter.due()).min()
    }

    /// What is to be written down now. Who has been silent is forgotten.
    fn sums(&mut self, now: Instant) -> Vec<AuditEvent> {
        let sums = self.0.iter_mut().filter_map(|((kind, _), one)| one.counter.take(now, kind.many()));
        let sums = sums.collect();
        self.0.retain(|_, one| one.counter.due().is_some() || one.anew.is_some_and(|anew| anew > now));
        sums
    }

    /// What was counted, whenever it was.
    fn rest(&mut self) -> Vec<AuditEvent> {
        self.0.drain().filter_map(|((kind, _), mut one)| one.counter.rest(kind.many())).collect()
    }
}

/// A line, and who waits for it.
type Line = (AuditEvent, Option<oneshot::Sender<Result<(), String>>>);

/// Writes until it is told that the daemon goes, or nobody is left who could have something to say.
pub(super) async fn run(mut orders: mpsc::Receiver<WriterCommand>, shared: Arc<Shared>, mut pen: Appender) {
    let mut capped = TotalBudget::default();
    // The log is opened at once: what is wrong with it is to be known before the first request.
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
            // Who has gone meanwhile wants to know no more.
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

/// What is to be written now, and who is to be told then.
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

/// Writes lines, in their order. Blocking.
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
        // Who has gone meanwhile wants to know no more.
        let _ = done.send(written);
    }
}
