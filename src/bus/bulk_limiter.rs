//! The gate before the uplink: bulk waits here, so that small urgent messages need not.
//!
//! Everything a peer says goes over one connection, heartbeats included, in order. What was handed
//! to the connection is therefore ahead of the next heartbeat. The gate lets only [`BUDGET`] bytes
//! of bulk through until the server has them: after some bulk a marker is sent to our own inbox,
//! and when it has come back, all before it has arrived. A caller that does not read its output is
//! of no account here: its bytes have left the uplink.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Bus, Outgoing, locked};

/// Most bytes of bulk between here and the server. On a link of 1 MiB/s a heartbeat then waits at
/// most a second; on loopback it allows several GiB/s.
pub(super) const BUDGET: usize = 1 << 20;

/// What subject, reply and headers take beside the payload, in bytes: small messages count, too.
const AROUND: usize = 512;

/// How long to wait for a marker before taking it for lost with its connection. Long enough for
/// [`BUDGET`] bytes on a link of 50 KB/s.
const MARKER_PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct BulkLimiter {
    room: Arc<Semaphore>,
    passed: Arc<Mutex<Vec<OwnedSemaphorePermit>>>,
    marking: Arc<AtomicBool>,
}

/// Room for one message.
pub(super) struct BulkPermit(Option<OwnedSemaphorePermit>);

impl BulkLimiter {
    pub(super) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(BUDGET)), passed: Arc::default(), marking: Arc::default() }
    }

    /// Waits for room; first come, first served.
    pub(super) async fn enter(&self, payload: usize) -> BulkPermit {
        let size = u32::try_from((payload + AROUND).min(BUDGET)).unwrap_or(u32::MAX);
        // The semaphore is never closed; were it, nothing would hold the message back.
        BulkPermit(Arc::clone(&self.room).acquire_many_owned(size).await.ok())
    }

    /// Notes that a message was handed to the connection, and has a marker follow it.
    pub(super) fn passed(&self, place: BulkPermit, bus: &Bus) {
        locked(&self.passed).extend(place.0);
        if !self.marking.swap(true, Ordering::AcqRel) {
            tokio::spawn(mark(bus.clone()));
        }
    }
}

/// Sends markers until all that passed the gate has arrived.
async fn mark(bus: Bus) {
    loop {
        let ahead = std::mem::take(&mut *locked(&bus.shared.gate.passed));
        if ahead.is_empty() {
            bus.shared.gate.marking.store(false, Ordering::Release);
            // A message may have passed between the look and the store.
            if locked(&bus.shared.gate.passed).is_empty()
                || bus.shared.gate.marking.swap(true, Ordering::AcqRel)
            {
                return;
            }
            continue;
        }
        let mut marker = bus.mailbox();
        let mut link = bus.link();
        let generation = link.borrow_and_update().generation;
        if bus.publish(Outgoing::to(marker.subject())).await.is_ok() {
            tokio::select! {
                _ = marker.next() => {}
                _ = link.wait_for(|link| !link.up || link.generation != generation) => {}
                () = tokio::time::sleep(MARKER_PATIENCE) => {}
            }
        }
        drop(ahead);
    }
}
