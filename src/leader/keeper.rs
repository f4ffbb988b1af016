//! The task that owns the registry: it writes what waits, and waits for a database that is away.
//!
//! The idea: what is to be written is not a queue of steps but the latest row of each peer, so a
//! database that is slow, full or away for a day costs one row of memory per peer, and the last
//! word is written when it is back. Nobody waits for this task.
//!
//! Guarantees: the log has one line when the database goes away and one when it is back, not one
//! for each attempt; it is back when it takes what waited. Limit: rows that were waiting when the process is killed are lost; their peers
//! beat again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::protocol::PeerId;
use crate::protocol::peers::PeerRow;

use super::registry::{Place, Registry, RegistryError};

/// The first wait for a database that is away; every further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What the keeper tells the leader.
#[derive(Debug)]
pub(super) enum Report {
    /// The registry was read, for the first time.
    Loaded(Vec<PeerRow>),
    /// The database is away, and why.
    Away(String),
    /// These peers are out of the registry.
    Removed(Vec<PeerId>),
    /// It is there again. It may be another one than before.
    Back,
}

/// What is to be written. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    woken: Notify,
}

/// The latest row of each peer; none where it is to be taken out.
type Changes = BTreeMap<PeerId, Option<PeerRow>>;

#[derive(Default)]
struct State {
    changes: Changes,
    finishing: bool,
}

impl Waiting {
    /// Has rows written soon, in place of older ones of the same peers.
    pub(super) fn put(&self, rows: impl IntoIterator<Item = PeerRow>) {
        let changes = rows.into_iter().map(|row| (row.peer_id.clone(), Some(row)));
        self.with(|state| state.changes.extend(changes));
        self.0.woken.notify_one();
    }

    /// Has a peer taken out soon, in place of whatever was to be written of it.
    pub(super) fn remove(&self, peer: PeerId) {
        self.with(|state| state.changes.insert(peer, None));
        self.0.woken.notify_one();
    }

    /// Lets the keeper end once everything is written.
    pub(super) fn finish(&self) {
        self.with(|state| state.finishing = true);
        self.0.woken.notify_one();
    }

    fn is_finishing(&self) -> bool {
        self.with(|state| state.finishing)
    }

    /// Waits until there is something to write; false at the end.
    async fn any(&self) -> bool {
        loop {
            match self.with(|state| (state.changes.is_empty(), state.finishing)) {
                (false, _) => return true,
                (true, true) => return false,
                (true, false) => self.0.woken.notified().await,
            }
        }
    }

    /// Everything that waits.
    fn take(&self) -> Changes {
        self.with(|state| std::mem::take(&mut state.changes))
    }

    /// Puts back what could not be written, except where there is something newer.
    fn put_back(&self, changes: Changes) {
        self.with(|state| {
            for (peer, row) in changes {
                state.changes.entry(peer).or_insert(row);
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Keeps the registry until it is finished; returns then.
pub(super) async fn keep(place: Place, waiting: Waiting, reports: mpsc::Sender<Report>) {
    let mut outage = Outage::default();
    let mut was_loaded = false;
    loop {
        let tried = attempt(&place, &waiting, &reports, &mut was_loaded, &mut outage).await;
        let Err(failure) = tried else { return };
        if let Some(report) = outage.goes_on(&failure) {
            // The leader has ended when nobody takes this; then there is nothing to tell.
            let _ = reports.send(report).await;
        }
        if waiting.is_finishing() {
            tracing::warn!("stopping while the registry is away: what was not written is lost");
            return;
        }
        outage.wait(&waiting).await;
    }
}

/// Opens the registry, and writes until the end or a failure. An outage is over only once what
/// waited is written: a database that can be opened may still be full or read-only.
async fn attempt(
    place: &Place,
    waiting: &Waiting,
    reports: &mpsc::Sender<Report>,
    was_loaded: &mut bool,
    outage: &mut Outage,
) -> Result<(), RegistryError> {
    let mut registry = Registry::open(place).await?;
    if *was_loaded {
        write_what_waits(&mut registry, waiting, reports).await?;
        outage.is_over(place);
        let _ = reports.send(Report::Back).await;
    } else {
        let rows = registry.load().await?;
        *was_loaded = true;
        outage.is_over(place);
        let _ = reports.send(Report::Loaded(rows)).await;
    }
    while waiting.any().await {
        write_what_waits(&mut registry, waiting, reports).await?;
    }
    registry.close().await;
    Ok(())
}

async fn write_what_waits(
    registry: &mut Registry,
    waiting: &Waiting,
    reports: &mpsc::Sender<Report>,
) -> Result<(), RegistryError> {
    let changes = waiting.take();
    match write(registry, &changes).await {
        Ok(removed) => {
            if !removed.is_empty() {
                // The leader has ended when nobody takes this; then nobody waits for an answer.
                let _ = reports.send(Report::Removed(removed)).await;
            }
            Ok(())
        }
        Err(failure) => {
            waiting.put_back(changes);
            Err(failure)
        }
    }
}

/// Writes what changed; returns whom it took out.
async fn write(registry: &mut Registry, changes: &Changes) -> Result<Vec<PeerId>, RegistryError> {
    let rows: Vec<PeerRow> = changes.values().flatten().cloned().collect();
    registry.save(&rows).await?;
    let removed: Vec<PeerId> =
        changes.iter().filter(|(_, row)| row.is_none()).map(|(peer, _)| peer.clone()).collect();
    for peer in &removed {
        registry.remove(peer).await?;
    }
    Ok(removed)
}

/// How long the database has been away, counted in attempts.
#[derive(Default)]
struct Outage {
    attempts: u32,
    why: String,
}

impl Outage {
    /// Counts a failure. The first one is said; a report is made of the first one and of each that
    /// is another than the one before.
    fn goes_on(&mut self, failure: &RegistryError) -> Option<Report> {
        self.attempts = self.attempts.saturating_add(1);
        let why = failure.to_string();
        if self.attempts == 1 {
            tracing::error!("{why}; trying again until it works");
        } else if self.why == why {
            return None;
        } else {
            tracing::info!("still, {why}");
        }
        self.why.clone_from(&why);
        Some(Report::Away(why))
    }

    fn is_over(&mut self, place: &Place) {
        if self.attempts > 0 {
            tracing::info!(registry = %place, attempts = self.attempts, "the registry is back");
        }
        *self = Self::default();
    }

    /// Waits for the next attempt, or for the end.
    async fn wait(&self, waiting: &Waiting) {
        let doubled = FIRST_WAIT.saturating_mul(1 << self.attempts.saturating_sub(1).min(8));
        let pause = tokio::time::sleep(doubled.min(LONGEST_WAIT));
        let finishing = async {
            while !waiting.is_finishing() {
                waiting.0.woken.notified().await;
            }
        };
        tokio::select! {
            () = pause => {}
            () = finishing => {}
        }
    }
}
