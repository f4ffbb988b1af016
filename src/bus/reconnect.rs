//! Keeping the link up: connect, live, and again, with patience that grows and jitter.

use std::sync::Arc;
use std::time::Duration;

use super::{Settings, Shared, connection};

/// The first wait after a loss; every further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait between two attempts, before jitter. Ten thousand peers that lost their server
/// then come back over some seconds, not in one instant.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// Whether the first failure to connect is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconnectPolicy {
    /// Keep trying until the link is closed: daemons.
    UntilClosed,
    /// Give up when the first attempt fails, keep the link up afterwards: the command line.
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

/// How long to wait before the next attempt: doubled each time, then anything from half of it to
/// one and a half of it.
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
