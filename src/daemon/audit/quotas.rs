//! How much of the log one principal may fill.
//!
//! A log has a size, and the oldest lines go when it is full: whoever could write without bound could push out what
//! others did, and what it did itself. So each proved principal has a share of so many bytes a day. Beyond it nothing of
//! it is run, so that nothing runs that is not written down, and its refusals are only counted.
//!
//! Where nobody is asked who they are, nobody has a share.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use peerbus_protocol::identity::Name;

/// The part of the log that one principal may fill, at once and then in each [`DAY`].
const PART: u64 = 4;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What each principal has filled lately. There are as many as the fleet has identities.
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
    /// Of a log of this size, in bytes.
    pub(super) fn of(size: u64) -> Self {
        Self { share: (size / PART) as f64, of: HashMap::new() }
    }

    fn filled(&self, principal: &Name, now: Instant) -> f64 {
        let Some(Filled { bytes, at }) = self.of.get(principal) else { return 0.0 };
        let gone = self.share * now.duration_since(*at).as_secs_f64() / DAY.as_secs_f64();
        (bytes - gone).max(0.0)
    }

    /// Counts what an principal has filled.
    pub(super) fn fill(&mut self, principal: &Name, bytes: usize, now: Instant) {
        let bytes = self.filled(principal, now) + bytes as f64;
        self.of.insert(principal.clone(), Filled { bytes, at: now });
    }

    /// Whether an principal has room.
    ///
    /// # Errors
    /// How long it takes until it has.
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
