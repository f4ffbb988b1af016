//! The presence clock, which measures silence: it is paused while there is no connection.

use std::time::Duration;

use tokio::time::Instant;

/// Time since the leader started, without the time it was disconnected.
#[derive(Debug)]
pub(super) struct PresenceClock {
    before: Duration,
    running_since: Option<Instant>,
}

impl PresenceClock {
    /// A clock that is paused at zero.
    pub(super) fn new() -> Self {
        Self { before: Duration::ZERO, running_since: None }
    }

    /// The reading at an instant that is not in the past.
    pub(super) fn at(&self, instant: Instant) -> Duration {
        let running = self.running_since.map_or(Duration::ZERO, |since| instant.duration_since(since));
        self.before + running
    }

    /// The current reading.
    pub(super) fn now(&self) -> Duration {
        self.at(Instant::now())
    }

    /// Starts the clock.
    pub(super) fn start(&mut self, instant: Instant) {
        self.running_since.get_or_insert(instant);
    }

    /// Pauses the clock.
    pub(super) fn stop(&mut self, instant: Instant) {
        self.before = self.at(instant);
        self.running_since = None;
    }

    /// Whether the clock runs, that is, whether the connection is up.
    pub(super) fn runs(&self) -> bool {
        self.running_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_still_while_stopped() {
        let (begin, hour) = (Instant::now(), Duration::from_secs(3_600));
        let mut clock = PresenceClock::new();
        assert_eq!(clock.at(begin + hour), Duration::ZERO);
        clock.start(begin + hour);
        clock.start(begin + hour + hour);
        clock.stop(begin + hour * 2);
        assert_eq!((clock.at(begin + hour * 9), clock.runs()), (hour, false));
        clock.start(begin + hour * 9);
        assert_eq!((clock.at(begin + hour * 10), clock.runs()), (hour * 2, true));
    }
}
