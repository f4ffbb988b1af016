//! Limits concurrent shim starts, so that a thousand simultaneous requests leave resources for everything else.
//!
//! Guarantees: shims start in the order of the requests, and only a few at a time. A start that hangs, as in a
//! directory of a dead file server, gives its permit up and so delays others only briefly.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

/// Concurrent starts per processor: one may wait for the disk while another computes.
const FOR_EACH_PROCESSOR: usize = 2;

/// How long a start keeps its permit. It takes a few milliseconds unless something is slow.
const QUICK: Duration = Duration::from_secs(1);

/// The source of permits.
pub(crate) struct Starts(Arc<Semaphore>);

/// The right to start a shim now.
pub(super) struct SpawnPermit {
    _permit: OwnedSemaphorePermit,
}

impl Default for Starts {
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Semaphore::new(processors * FOR_EACH_PROCESSOR)))
    }
}

impl Starts {
    /// Waits for a permit. `None` once no more are issued.
    pub(super) async fn turn(&self) -> Option<SpawnPermit> {
        Arc::clone(&self.0).acquire_owned().await.ok().map(|permit| SpawnPermit { _permit: permit })
    }
}

impl SpawnPermit {
    /// Starts something on a blocking thread.
    pub(super) async fn start<T: Send + 'static>(
        self,
        start: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let mut started = spawn_blocking(start);
        if let Ok(started) = timeout(QUICK, &mut started).await {
            return started;
        }
        drop(self);
        started.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::oneshot;
    use tokio::task::JoinSet;

    fn limited(turns: usize) -> Arc<Starts> {
        Arc::new(Starts(Arc::new(Semaphore::new(turns))))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_burst_is_started_a_few_at_a_time() {
        let (starts, now, most) = (limited(3), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut all = JoinSet::new();
        for _ in 0..60 {
            let (starts, now, most) = (Arc::clone(&starts), Arc::clone(&now), Arc::clone(&most));
            all.spawn(async move {
                let start = move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(1));
                    now.fetch_sub(1, Ordering::SeqCst);
                };
                starts.turn().await.expect("a turn").start(start).await.expect("started");
            });
        }
        all.join_all().await;
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_that_hangs_holds_up_no_other() {
        let starts = limited(1);
        let (end, ended) = oneshot::channel::<()>();
        let turn = starts.turn().await.expect("a turn");
        let hangs = tokio::spawn(turn.start(move || ended.blocking_recv().is_ok()));
        assert_eq!(starts.turn().await.expect("a turn").start(|| 7).await.expect("started"), 7);
        end.send(()).expect("it hangs still");
        assert!(hangs.await.expect("a task").expect("started"));
    }
}
