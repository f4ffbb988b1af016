//! Limits unacknowledged bulk bytes, so that small urgent messages need not wait behind them.
//!
//! A peer sends everything over one connection, in order, heartbeats included. So bulk bytes already
//! handed to the connection delay the next heartbeat. The limiter admits only [`BUDGET`] bytes of bulk
//! until the server has received them. To learn that, it sends a marker to our own inbox after some
//! bulk; when the marker returns, the server has everything sent before it. A slow caller does not
//! affect this limit, because its bytes have already left our uplink.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Bus, Outgoing, locked};

/// Most bulk bytes in flight to the server. At 1 MiB/s a heartbeat then waits at most a second;
/// loopback still reaches several GiB/s.
pub(super) const BUDGET: usize = 1 << 20;

/// Estimated size of subject, reply and headers, in bytes, so that small messages count too.
const AROUND: usize = 512;

/// Timeout of a marker, after which it counts as lost with its connection. Long enough for [`BUDGET`]
/// bytes at 50 KB/s.
const MARKER_PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct BulkLimiter {
    room: Arc<Semaphore>,
    passed: Arc<Mutex<Vec<OwnedSemaphorePermit>>>,
    marking: Arc<AtomicBool>,
}

/// A permit for one message.
pub(super) struct BulkPermit(Option<OwnedSemaphorePermit>);

impl BulkLimiter {
    pub(super) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(BUDGET)), passed: Arc::default(), marking: Arc::default() }
    }

    /// Waits for a permit, first come, first served.
    pub(super) async fn enter(&self, payload: usize) -> BulkPermit {
        let size = u32::try_from((payload + AROUND).min(BUDGET)).unwrap_or(u32::MAX);
        // Nobody closes the semaphore. If it were closed, the message would simply pass.
        BulkPermit(Arc::clone(&self.room).acquire_many_owned(size).await.ok())
    }

    /// Records that a message was handed to the connection, and ensures that a marker follows it.
    pub(super) fn passed(&self, place: BulkPermit, bus: &Bus) {
        locked(&self.passed).extend(place.0);
        if !self.marking.swap(true, Ordering::AcqRel) {
            tokio::spawn(mark(bus.clone()));
        }
    }
}

/// Sends markers until the server has received all admitted messages.
async fn mark(bus: Bus) {
    loop {
        let ahead = std::mem::take(&mut *locked(&bus.shared.gate.passed));
        if ahead.is_empty() {
            bus.shared.gate.marking.store(false, Ordering::Release);
            // A message may have been admitted between the check and the store.
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
