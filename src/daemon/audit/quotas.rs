//! Limits how much of the log one principal may fill.
//!
//! A log has a maximum size, and the oldest lines are removed when it is full. A principal that could write without
//! bound could push out the lines of others, and its own. So each proved principal has a daily share in bytes.
//! Beyond it, its requests are refused, so that nothing runs unrecorded, and its refusals are only counted.
//!
//! Without identities there are no shares.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use peerbus_protocol::identity::Name;

/// Divisor for the part of the log that one principal may fill at once, and then in each [`DAY`].
const PART: u64 = 4;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What each principal has filled recently. The number of entries is bounded by the fleet's identities.
#[derive(Debug)]
pub(super) struct Quotas {
    /// In bytes.
    share: f64,
    of: HashMap<Name, Filled>,
}

#[derive(Debug, Clone, Copy)]
struct Filled {
    bytes: f64,
    at: Instant,
}

impl Quotas {
    /// Quotas for a log of this size in bytes.
    pub(super) fn of(size: u64) -> Self {
        Self { share: (size / PART) as f64, of: HashMap::new() }
    }

    fn filled(&self, principal: &Name, now: Instant) -> f64 {
        let Some(Filled { bytes, at }) = self.of.get(principal) else { return 0.0 };
        let gone = self.share * now.duration_since(*at).as_secs_f64() / DAY.as_secs_f64();
        (bytes - gone).max(0.0)
    }

    /// Counts bytes that a principal has filled.
    pub(super) fn fill(&mut self, principal: &Name, bytes: usize, now: Instant) {
        let bytes = self.filled(principal, now) + bytes as f64;
        self.of.insert(principal.clone(), Filled { bytes, at: now });
    }

    /// Whether a principal has room.
    ///
    /// # Errors
    /// How long until it has room.
    pub(super) fn has_room(&self, principal: &Name, now: Instant) -> Result<(), Duration> {
        let beyond = self.filled(principal, now) - self.share;
        if beyond < 0.0 {
            return Ok(());
        }
        Err(Duration::from_secs_f64(beyond / self.share * DAY.as_secs_f64()).max(Duration::from_secs(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fills_its_share_waits_and_nobody_else_does() {
        let (ann, bob): (Name, Name) = ("ann".parse().expect("a name"), "bob".parse().expect("a name"));
        let (mut shares, now) = (Quotas::of(4_000), Instant::now());
        shares.fill(&ann, 999, now);
        assert_eq!(shares.has_room(&ann, now), Ok(()));
        shares.fill(&ann, 501, now);
        let wait = shares.has_room(&ann, now).expect_err("its share is full");
        assert!(wait.abs_diff(DAY / 2) < Duration::from_secs(1), "{wait:?}");
        assert_eq!(shares.has_room(&bob, now), Ok(()));
        assert_eq!(shares.has_room(&ann, now + DAY / 2 + Duration::from_secs(60)), Ok(()));
        shares.fill(&ann, 1, now + 3 * DAY);
        assert!(shares.filled(&ann, now + 3 * DAY) <= 1.0, "what is long gone is not saved up");
    }
}
