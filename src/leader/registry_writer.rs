//! The task that owns the registry: it writes pending changes, and retries while the database is
//! unavailable.
//!
//! The idea: the pending changes are not a queue of steps but the latest row of each peer. So a
//! database that is slow, full or down for a day costs one row of memory per peer, and gets the
//! latest rows when it is back. No other task waits for this one.
//!
//! Guarantees: the log has one line when the database goes away and one when it is back, not one
//! per attempt. The database counts as back only after it took the pending changes. Every removal
//! is reported, even if the peer sends a heartbeat before it was written. Limit: rows that are
//! pending when the process is killed are lost; their peers send heartbeats again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use peerbus_protocol::PeerId;
use peerbus_protocol::peers::PeerRow;

use super::registry::{DatabaseUrl, Registry, RegistryError, Removal};

/// The first pause after a failure. Every further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// The longest pause between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Reports to the leader.
#[derive(Debug)]
pub(super) enum WriterEvent {
    /// The registry was read for the first time.
    Loaded(Vec<PeerRow>),
    /// The database is unavailable, and why.
    Away(String),
    /// Results of removals.
    Removed(Vec<(PeerId, Removal)>),
    /// The database is available again. It may be another database than before.
    Back,
}

/// The changes to write. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct PendingWrites(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    woken: Notify,
}

/// Changes that are not in the database yet.
#[derive(Default)]
struct Changes {
    /// Peers to delete, before any row is written.
    removals: BTreeSet<PeerId>,
    /// The latest row of each peer.
    rows: BTreeMap<PeerId, PeerRow>,
}

impl Changes {
    fn are_none(&self) -> bool {
        self.removals.is_empty() && self.rows.is_empty()
    }
}

#[derive(Default)]
struct State {
    changes: Changes,
    finishing: bool,
}

impl PendingWrites {
    /// Schedules rows to be written. They replace pending rows of the same peers.
    pub(super) fn put(&self, rows: impl IntoIterator<Item = PeerRow>) {
        let rows = rows.into_iter().map(|row| (row.peer_id.clone(), row));
        self.with(|state| state.changes.rows.extend(rows));
        self.0.woken.notify_one();
    }

    /// Schedules a peer's removal. Its pending row is dropped.
    pub(super) fn remove(&self, peer: PeerId) {
        self.with(|state| {
            state.changes.rows.remove(&peer);
            state.changes.removals.insert(peer);
        });
        self.0.woken.notify_one();
    }

    /// Lets the writer end once everything is written.
    pub(super) fn finish(&self) {
        self.with(|state| state.finishing = true);
        self.0.woken.notify_one();
    }

    fn is_finishing(&self) -> bool {
        self.with(|state| state.finishing)
    }

    /// Waits until there are changes. Returns false if there are none and the writer should end.
    async fn any(&self) -> bool {
        loop {
            match self.with(|state| (state.changes.are_none(), state.finishing)) {
                (false, _) => return true,
                (true, true) => return false,
                (true, false) => self.0.woken.notified().await,
            }
        }
    }

    /// Takes all pending changes.
    fn take(&self) -> Changes {
        self.with(|state| std::mem::take(&mut state.changes))
    }

    /// Puts back changes that could not be written, unless there are newer ones for the same peer.
    fn put_back(&self, undone: Changes) {
        self.with(|state| {
            let newer = &mut state.changes;
            for (peer, row) in undone.rows {
                if !newer.removals.contains(&peer) {
                    newer.rows.entry(peer).or_insert(row);
                }
            }
            newer.removals.extend(undone.removals);
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs the writer until [`PendingWrites::finish`] was called and everything is written.
pub(super) async fn keep(place: DatabaseUrl, waiting: PendingWrites, reports: mpsc::Sender<WriterEvent>) {
    let mut outage = Outage::default();
    let mut was_loaded = false;
    loop {
        let tried = attempt(&place, &waiting, &reports, &mut was_loaded, &mut outage).await;
        let Err(failure) = tried else { return };
        if failure.is_damage() {
            move_aside(&place, &failure).await;
        }
        if let Some(report) = outage.goes_on(&failure) {
            // The send fails only if the leader has ended.
            let _ = reports.send(report).await;
        }
        if waiting.is_finishing() {
            tracing::warn!("stopping while the registry is away: what was not written is lost");
            return;
        }
        outage.wait(&waiting).await;
    }
}

/// Moves a damaged registry aside, so that a new one can be created. The leader writes all peers it
/// knows into the new one, and heartbeats add the others.
async fn move_aside(place: &DatabaseUrl, failure: &RegistryError) {
    let of = place.clone();
    let moved = tokio::task::spawn_blocking(move || of.move_aside()).await;
    match moved.map_err(std::io::Error::other).flatten() {
        Ok(Some(aside)) => {
            let aside = aside.display();
            tracing::error!(%aside, "{failure}: it is damaged and was moved aside; a new one is made from heartbeats, and a peer that is away is missing until it is back");
        }
        Ok(None) => {}
        Err(error) => tracing::error!(registry = %place, %error, "moving a damaged registry aside"),
    }
}

/// Opens the registry, and writes until the end or a failure. An outage ends only after the pending
/// changes are written: a database that opens may still be full or read-only.
async fn attempt(
    place: &DatabaseUrl,
    waiting: &PendingWrites,
    reports: &mpsc::Sender<WriterEvent>,
    was_loaded: &mut bool,
    outage: &mut Outage,
) -> Result<(), RegistryError> {
    let mut registry = Registry::open(place).await?;
    if *was_loaded {
        write_what_waits(&mut registry, waiting, reports).await?;
        outage.is_over(place);
        let _ = reports.send(WriterEvent::Back).await;
    } else {
        let rows = registry.load().await?;
        *was_loaded = true;
        outage.is_over(place);
        let _ = reports.send(WriterEvent::Loaded(rows)).await;
    }
    while waiting.any().await {
        write_what_waits(&mut registry, waiting, reports).await?;
    }
    registry.close().await;
    Ok(())
}

async fn write_what_waits(
    registry: &mut Registry,
    waiting: &PendingWrites,
    reports: &mpsc::Sender<WriterEvent>,
) -> Result<(), RegistryError> {
    let mut changes = waiting.take();
    let (removed, taken_out) = take_out(registry, &mut changes.removals).await;
    if !removed.is_empty() {
        // The send fails only if the leader has ended; then nobody waits for an answer.
        let _ = reports.send(WriterEvent::Removed(removed)).await;
    }
    let rows: Vec<PeerRow> = changes.rows.values().cloned().collect();
    let written = match taken_out {
        Ok(()) => registry.save(&rows).await,
        failed => failed,
    };
    if written.is_err() {
        waiting.put_back(changes);
    }
    written
}

/// Deletes peers one by one. On a failure, `peers` still has the remaining ones.
async fn take_out(
    registry: &mut Registry,
    peers: &mut BTreeSet<PeerId>,
) -> (Vec<(PeerId, Removal)>, Result<(), RegistryError>) {
    let mut done = Vec::new();
    while let Some(peer) = peers.first().cloned() {
        match registry.remove(&peer).await {
            Ok(removal) => done.push((peer.clone(), removal)),
            Err(failure) => return (done, Err(failure)),
        }
        peers.remove(&peer);
    }
    (done, Ok(()))
}

/// An outage of the database, counted in attempts.
#[derive(Default)]
struct Outage {
    attempts: u32,
    why: String,
}

impl Outage {
    /// Counts a failure. Logs the first one as an error. Returns a report for the first one and for
    /// each one with another reason than the one before.
    fn goes_on(&mut self, failure: &RegistryError) -> Option<WriterEvent> {
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
        Some(WriterEvent::Away(why))
    }

    fn is_over(&mut self, place: &DatabaseUrl) {
        if self.attempts > 0 {
            tracing::info!(registry = %place, attempts = self.attempts, "the registry is back");
        }
        *self = Self::default();
    }

    /// Waits for the next attempt, or until the writer should end.
    async fn wait(&self, waiting: &PendingWrites) {
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

#[cfg(test)]
mod tests;
