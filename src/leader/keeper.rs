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

#[derive(Default)]
struct State {
    rows: BTreeMap<PeerId, PeerRow>,
    finishing: bool,
}

impl Waiting {
    /// Has rows written soon, in place of older ones of the same peers.
    pub(super) fn put(&self, rows: impl IntoIterator<Item = PeerRow>) {
        self.with(|state| state.rows.extend(rows.into_iter().map(|row| (row.peer_id.clone(), row))));
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
    async fn take(&self) -> Option<Vec<PeerRow>> {
        loop {
            let (rows, finishing) = self.with(|state| (std::mem::take(&mut state.rows), state.finishing));
            match (rows.is_empty(), finishing) {
                (false, _) => return Some(rows.into_values().collect()),
                (true, true) => return None,
                (true, false) => self.0.woken.notified().await,
            }
        }
    }

    /// Puts back what could not be written, except where there is something newer.
    fn put_back(&self, rows: Vec<PeerRow>) {
        self.with(|state| {
            for row in rows {
                state.rows.entry(row.peer_id.clone()).or_insert(row);
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
                match write(registry, &waiting).await {
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
async fn write(mut registry: Registry, waiting: &Waiting) -> Result<(), RegistryError> {
    while let Some(rows) = waiting.take().await {
        if let Err(failure) = registry.save(&rows).await {
            waiting.put_back(rows);
            return Err(failure);
        }
    }
    Ok(())
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
