//! The task that owns the registry: it writes what waits, and waits for a database that is away.
//!
//! The idea: what is to be written is not a queue of steps but the latest row of each peer, so a
//! database that is slow, full or away for a day costs one row of memory per peer, and the last
//! word is written when it is back. Nobody waits for this task.
//!
//! Guarantees: the log has one line when the database goes away and one when it is back, not one
//! for each attempt. Limit: rows that were waiting when the process is killed are lost; their peers
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

    /// Everything that waits, as soon as there is something; none at the end.
    async fn take(&self) -> Option<Changes> {
        loop {
            let (changes, finishing) =
                self.with(|state| (std::mem::take(&mut state.changes), state.finishing));
            match (changes.is_empty(), finishing) {
                (false, _) => return Some(changes),
                (true, true) => return None,
                (true, false) => self.0.woken.notified().await,
            }
        }
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
        let failure = match begin(&place, was_loaded).await {
            Ok((registry, report)) => {
                outage.is_over(&place);
                was_loaded = true;
                // The leader has ended when nobody takes this; then there is nothing to tell.
                let _ = reports.send(report).await;
                match write(registry, &waiting, &reports).await {
                    Ok(()) => return,
                    Err(failure) => failure,
                }
            }
            Err(failure) => failure,
        };
        if outage.begins(&failure) {
            let _ = reports.send(Report::Away(failure.to_string())).await;
        }
        if waiting.is_finishing() {
            tracing::warn!("stopping while the registry is away: what was not written is lost");
            return;
        }
        outage.wait(&waiting).await;
    }
}

async fn begin(place: &Place, was_loaded: bool) -> Result<(Registry, Report), RegistryError> {
    let mut registry = Registry::open(place).await?;
    if was_loaded {
        return Ok((registry, Report::Back));
    }
    let rows = registry.load().await?;
    Ok((registry, Report::Loaded(rows)))
}

/// Writes what comes, until the end or a failure.
async fn write(
    mut registry: Registry,
    waiting: &Waiting,
    reports: &mpsc::Sender<Report>,
) -> Result<(), RegistryError> {
    while let Some(changes) = waiting.take().await {
        match write_all(&mut registry, &changes).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => {
                // The leader has ended when nobody takes this; then nobody waits for an answer.
                let _ = reports.send(Report::Removed(removed)).await;
            }
            Err(failure) => {
                waiting.put_back(changes);
                return Err(failure);
            }
        }
    }
    Ok(())
}

/// Writes what changed; returns whom it took out.
async fn write_all(registry: &mut Registry, changes: &Changes) -> Result<Vec<PeerId>, RegistryError> {
    let rows: Vec<PeerRow> = changes.values().flatten().cloned().collect();
    if !rows.is_empty() {
        registry.save(&rows).await?;
    }
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
}

impl Outage {
    /// Counts a failure; true when it is the first one.
    fn begins(&mut self, failure: &RegistryError) -> bool {
        self.attempts = self.attempts.saturating_add(1);
        if self.attempts == 1 {
            tracing::error!("{failure}; trying again until it works");
        }
        self.attempts == 1
    }

    fn is_over(&mut self, place: &Place) {
        if self.attempts > 0 {
            tracing::info!(registry = %place, attempts = self.attempts, "the registry is back");
        }
        self.attempts = 0;
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
