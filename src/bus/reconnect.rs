//! The reconnect loop: connects, serves the connection, and retries with exponential backoff and
//! jitter.

use std::sync::Arc;
use std::time::Duration;

use super::{Settings, Shared, connection};

/// First backoff after a loss; every further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Longest backoff, before jitter. After a server restart, ten thousand peers come back over some
/// seconds, not at once.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// Whether the first failure to connect is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconnectPolicy {
    /// Retry until the bus is closed: for daemons.
    UntilClosed,
    /// Fail if the first attempt fails; reconnect after later losses: for the command line.
    FirstAttemptCounts,
}

pub(super) async fn keep_up(shared: Arc<Shared>, settings: Settings, persistence: ReconnectPolicy) {
    let mut failures = 0_u32;
    let mut stopped = shared.stopped.subscribe();
    while !*stopped.borrow() {
        match connection::live_once(&shared, &settings).await {
            Ok(()) => {
                failures = 0;
                if !*stopped.borrow() {
                    tracing::warn!(bus = %settings.address, "lost the connection to the bus; connecting again");
                }
            }
            Err(reason) => {
                let reason = format!("connecting to the bus at {}: {reason}", settings.address);
                if failures.is_power_of_two() || failures == 0 {
                    tracing::warn!("{reason}");
                }
                shared.last_error.send_replace(Some(reason));
                failures = failures.saturating_add(1);
                let never_connected = shared.link.borrow().generation == 0;
                if persistence == ReconnectPolicy::FirstAttemptCounts && never_connected {
                    shared.stopped.send_replace(true);
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait_after(failures)) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }
}

/// The backoff before the next attempt: doubles each time, then a random factor from 0.5 to 1.5.
fn wait_after(failures: u32) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1_u32 << failures.min(16));
    doubled.min(LONGEST_WAIT).mul_f64(rand::random_range(0.5..1.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_bounded() {
        assert!(wait_after(0) <= FIRST_WAIT * 2);
        for failures in [1, 10, 100, u32::MAX] {
            assert!(wait_after(failures) <= LONGEST_WAIT * 2);
        }
    }
}
