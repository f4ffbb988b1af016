//! Decides when a viewer reads its log. Pure functions of time.

use std::time::{Duration, Instant};

/// Pause before reading an unreadable log again.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// Reads in a row that may fail. Log content does not change by itself, but a system out of file descriptors may
/// soon have some again.
pub(super) const TRIES: u32 = 3;

/// Whether to read the log: after an empty read, only once there is progress. Progress during a read counts.
#[derive(Debug, Default)]
pub(super) struct PollState {
    dry: bool,
    news: bool,
    /// Failed reads in a row.
    failed: u32,
    again: Option<Instant>,
    /// Whether a read happened since the last `is_idle`.
    looked: bool,
}

impl PollState {
    /// Whether there is nothing to read now.
    pub(super) fn waits(&self) -> bool {
        self.dry || self.again.is_some()
    }

    pub(super) fn begins(&mut self) {
        (self.news, self.looked) = (false, true);
    }

    pub(super) fn on_news(&mut self) {
        (self.dry, self.news) = (false, true);
    }

    /// Records a successful read.
    pub(super) fn found(&mut self) {
        self.failed = 0;
    }

    pub(super) fn found_nothing(&mut self) {
        self.found();
        self.dry = !self.news;
    }

    /// Records a failed read. Returns whether to try again.
    pub(super) fn fails(&mut self, now: Instant) -> bool {
        self.failed += 1;
        self.again = (self.failed < TRIES).then(|| now + READ_AGAIN);
        self.again.is_some()
    }

    /// When to try again.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again
    }

    pub(super) fn on_clock(&mut self, now: Instant) {
        self.again = self.again.filter(|at| now < *at);
    }

    /// Whether no read happened since the last call.
    pub(super) fn is_idle(&mut self) -> bool {
        !std::mem::take(&mut self.looked)
    }
}

/// Runs a read that may fail temporarily, on the blocking thread pool.
pub(super) async fn tried<T: Send + 'static>(
    read: impl Fn() -> std::io::Result<T> + Clone + Send + 'static,
) -> std::io::Result<T> {
    let mut look = PollState::default();
    loop {
        let found = tokio::task::spawn_blocking(read.clone()).await.map_err(std::io::Error::other);
        match found.and_then(|found| found) {
            Err(_) if look.fails(Instant::now()) => tokio::time::sleep(READ_AGAIN).await,
            found => return found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_that_come_during_a_look_have_it_look_again() {
        let mut look = PollState::default();
        look.begins();
        look.found_nothing();
        assert!(look.waits());
        look.on_news();
        assert!(!look.waits());
        look.begins();
        look.on_news();
        look.found_nothing();
        assert!(!look.waits(), "the end may be among them, and nothing would be said of it ever again");
        look.begins();
        look.found_nothing();
        assert!(look.waits());
    }

    #[test]
    fn what_cannot_be_read_is_given_up_soon() {
        let (mut look, mut now) = (PollState::default(), Instant::now());
        for _ in 1..TRIES {
            look.begins();
            assert!(look.fails(now) && look.waits());
            now = look.again_at().expect("soon");
            look.on_clock(now);
            assert!(!look.waits());
        }
        assert!(!look.fails(now));
        look.found();
        assert!(look.fails(now), "another time");
    }

    #[test]
    fn who_has_not_looked_for_a_while_is_idle() {
        let mut look = PollState::default();
        look.begins();
        assert!(!look.is_idle());
        assert!(look.is_idle());
        look.begins();
        assert!(!look.is_idle());
    }
}
