//! The timers of one job: pure functions that take the time as an argument.

use std::time::{Duration, Instant};

use peerbus_protocol::frame::ALIVE_EVERY_MS;

/// Interval of `alive` frames to the caller.
const ALIVE_EVERY: Duration = Duration::from_millis(ALIVE_EVERY_MS);

/// A caller counts as lost after this silence. It sends something every 5 s.
const CALLER_SILENCE: Duration = Duration::from_secs(20);

/// Longer than any timer here.
const FAR: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Lease {
    grace: Duration,
    alive_next: Instant,
    heard: Instant,
    vanished: Option<Instant>,
    /// Whether the job has given up the caller since its last message. This happens once.
    given_up: bool,
}

impl Lease {
    pub(super) fn new(now: Instant, grace: Duration) -> Self {
        Self { grace, alive_next: now + ALIVE_EVERY, heard: now, vanished: None, given_up: false }
    }

    pub(super) fn grace(&self) -> Duration {
        self.grace
    }

    /// Records a message of the caller.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.vanished = None;
        self.given_up = false;
    }

    /// Records that the caller's inbox does not exist.
    pub(super) fn caller_gone(&mut self, now: Instant) {
        self.vanished.get_or_insert(now);
    }

    /// Restarts the grace period once the ending is sent: a silent caller gets all of it to reconnect.
    pub(super) fn over(&mut self, now: Instant) {
        self.heard = now;
        self.given_up = false;
    }

    /// The next deadline. Timers that have fired do not count.
    pub(super) fn deadline(&self, now: Instant, streaming: bool, over: bool) -> Instant {
        let mut deadline = now + FAR;
        if streaming {
            if !self.given_up {
                deadline = deadline.min(self.caller_lost_at());
            }
            if !over {
                deadline = deadline.min(self.alive_next);
            }
        }
        deadline
    }

    fn caller_lost_at(&self) -> Instant {
        self.vanished.unwrap_or(self.heard + CALLER_SILENCE) + self.grace
    }

    /// Whether the caller's grace period has expired. True once, until the caller is heard again or the job is
    /// over.
    pub(super) fn caller_is_lost(&mut self, now: Instant) -> bool {
        let lost = !self.given_up && now >= self.caller_lost_at();
        self.given_up |= lost;
        lost
    }

    /// Whether an `alive` frame is due. True once per interval.
    pub(super) fn alive_is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.alive_next;
        if due {
            self.alive_next = now + ALIVE_EVERY;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_vanished_caller_gets_its_grace_and_any_word_stops_the_clock() {
        let start = Instant::now();
        let mut timing = Lease::new(start, 60 * SECOND);
        assert!(!timing.caller_is_lost(start + 79 * SECOND));
        assert!(timing.caller_is_lost(start + 80 * SECOND));
        timing.heard(start);
        timing.caller_gone(start + 10 * SECOND);
        assert!(timing.caller_is_lost(start + 70 * SECOND));
        timing.heard(start + 60 * SECOND);
        assert!(!timing.caller_is_lost(start + 139 * SECOND));
    }

    #[test]
    fn a_dead_line_of_a_finished_job_is_only_its_caller() {
        let start = Instant::now();
        let timing = Lease::new(start, 60 * SECOND);
        assert_eq!(timing.deadline(start, true, true), start + CALLER_SILENCE + 60 * SECOND);
    }

    #[test]
    fn what_the_clock_has_done_does_not_keep_it_ringing() {
        let start = Instant::now();
        let mut timing = Lease::new(start, SECOND);
        let now = start + 100 * SECOND;
        assert!(timing.alive_is_due(now) && timing.caller_is_lost(now));
        assert!(!timing.alive_is_due(now) && !timing.caller_is_lost(now));
        assert!(timing.deadline(now, true, false) > now, "what was done asks for no further look");
        timing.over(now);
        assert!(!timing.caller_is_lost(now) && timing.caller_is_lost(now + CALLER_SILENCE + SECOND));
    }

    #[test]
    fn a_job_without_a_stream_may_run_for_hours() {
        let start = Instant::now();
        let timing = Lease::new(start, SECOND);
        let now = start + 10 * FAR;
        assert!(timing.deadline(now, false, false) > now);
    }
}
