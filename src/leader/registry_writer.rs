//! The task that owns the registry: it writes what waits, and waits for a database that is away.
//!
//! The idea: what is to be written is not a queue of steps but the latest row of each peer, so a
//! database that is slow, full or away for a day costs one row of memory per peer, and the last
//! word is written when it is back. Nobody waits for this task.
//!
//! Guarantees: the log has one line when the database goes away and one when it is back, not one
//! for each attempt; it is back when it takes what waited. Whoever is to be taken out is reported,
//! even when it beats again before that was done. Limit: rows that were waiting when the process is
//! killed are lost; their peers beat again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use peerbus_protocol::PeerId;
use peerbus_protocol::peers::PeerRow;

use super::registry::{DatabaseUrl, Registry, RegistryError, Removal};

/// The first wait for a database that is away; every further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What the keeper tells the leader.
#[derive(Debug)]
pub(super) enum WriterEvent {
    /// The registry was read, for the first time.
    Loaded(Vec<PeerRow>),
    /// The database is away, and why.
    Away(String),
    /// What became of peers that were to be taken out of the registry.
    Removed(Vec<(PeerId, Removal)>),
    /// It is there again. It may be another one than before.
    Back,
}

/// What is to be written. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct PendingWrites(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    woken: Notify,
}

/// What the database has yet to learn.
#[derive(Default)]
struct Changes {
    /// Who is to be taken out, before any row is written.
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
    /// Has rows written soon, in place of older ones of the same peers.
    pub(super) fn put(&self, rows: impl IntoIterator<Item = PeerRow>) {
        let rows = rows.into_iter().map(|row| (row.peer_id.clone(), row));
        self.with(|state| state.changes.rows.extend(rows));
        self.0.woken.notify_one();
    }

    /// Has a peer taken out soon, in place of whatever was to be written of it.
    pub(super) fn remove(&self, peer: PeerId) {
        self.with(|state| {
            state.changes.rows.remove(&peer);
            state.changes.removals.insert(peer);
        });
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
            match self.with(|state| (state.changes.are_none(), state.finishing)) {
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

/// Keeps the registry until it is finished; returns then.
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

/// Makes room for a new registry in place of one that is no database any more. The leader writes all it knows into it,
/// and whoever beats is in it again.
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

/// Opens the registry, and writes until the end or a failure. An outage is over only once what
/// waited is written: a database that can be opened may still be full or read-only.
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
        // The leader has ended when nobody takes this; then nobody waits for an answer.
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

/// Takes peers out, one after the other. What is left of `peers` has yet to be done.
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

/// How long the database has been away, counted in attempts.
#[derive(Default)]
struct Outage {
    attempts: u32,
    why: String,
}

impl Outage {
    /// Counts a failure. The first one is said; a report is made of the first one and of each that
    /// is another than the one before.
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

    /// Waits for the next attempt, or for the end.
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
