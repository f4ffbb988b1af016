//! The clocks of one job, as pure rules with the time as an argument.

use std::time::{Duration, Instant};

use crate::protocol::frame::ALIVE_EVERY_MS;

/// How often a caller is told that its job lives.
const ALIVE_EVERY: Duration = Duration::from_millis(ALIVE_EVERY_MS);

/// Silence after which a caller counts as vanished. It says something every 5 s.
const CALLER_SILENCE: Duration = Duration::from_secs(20);

/// How long output may still come after the command's own end, from processes it left behind.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// Longer than anything here waits.
const FAR: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Timing {
    timeout: Option<Duration>,
    grace: Duration,
    started: Option<Instant>,
    exited: Option<Instant>,
    alive_next: Instant,
    heard: Instant,
    vanished: Option<Instant>,
    /// Whether the caller was given up since it was last heard: that is done once.
    given_up: bool,
}

impl Timing {
    pub(super) fn new(now: Instant, timeout_ms: Option<u64>, grace: Duration) -> Self {
        Self {
            timeout: timeout_ms.map(Duration::from_millis),
            grace,
            started: None,
            exited: None,
            alive_next: now + ALIVE_EVERY,
            heard: now,
            vanished: None,
            given_up: false,
        }
    }

    pub(super) fn grace(&self) -> Duration {
        self.grace
    }

    pub(super) fn process_started(&mut self, now: Instant) {
        self.started = Some(now);
    }

    pub(super) fn process_exited(&mut self, now: Instant) {
        self.exited = Some(now);
    }

    /// The caller said something.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.vanished = None;
        self.given_up = false;
    }

    /// The caller's inbox does not exist.
    pub(super) fn caller_gone(&mut self, now: Instant) {
        self.vanished.get_or_insert(now);
    }

    /// The ending was told: a caller that stays silent gets its whole grace to come back.
    pub(super) fn over(&mut self, now: Instant) {
        self.heard = now;
        self.given_up = false;
    }

    /// When to look at the clock next. What was done by the clock asks for no further look.
    pub(super) fn deadline(
        &self,
        now: Instant,
        streaming: bool,
        over: bool,
        output_may_end: bool,
    ) -> Instant {
        let mut deadline = now + FAR;
        if let (Some(timeout), None) = (self.timeout_at(), self.exited) {
            deadline = deadline.min(timeout);
        }
        if let (Some(exited), true, false) = (self.exited, output_may_end, over) {
            deadline = deadline.min(exited + OUTPUT_GRACE);
        }
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

    fn timeout_at(&self) -> Option<Instant> {
        self.started?.checked_add(self.timeout?)
    }

    fn caller_lost_at(&self) -> Instant {
        self.vanished.unwrap_or(self.heard + CALLER_SILENCE) + self.grace
    }

    /// Whether the time of the command is up; says so once.
    pub(super) fn is_timed_out(&mut self, now: Instant) -> bool {
        let up = self.timeout_at().is_some_and(|at| now >= at);
        if up {
            self.timeout = None;
        }
        up
    }

    /// Whether the caller had its grace; says so once, until it is heard again or the job is over.
    pub(super) fn caller_is_lost(&mut self, now: Instant) -> bool {
        let lost = !self.given_up && now >= self.caller_lost_at();
        self.given_up |= lost;
        lost
    }

    /// Whether it is time to say that the job lives; says so once.
    pub(super) fn alive_is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.alive_next;
        if due {
            self.alive_next = now + ALIVE_EVERY;
        }
        due
    }

    /// Whether output had its time after the command's end.
    pub(super) fn output_had_its_time(&self, now: Instant) -> bool {
        self.exited.is_some_and(|exited| now >= exited + OUTPUT_GRACE)
    }

    /// From the start of the process to its end, in milliseconds.
    pub(super) fn ran_for_ms(&self) -> u64 {
        let ran = self.started.zip(self.exited).map(|(from, to)| to.saturating_duration_since(from));
        ran.map_or(0, |ran| u64::try_from(ran.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_vanished_caller_gets_its_grace_and_any_word_stops_the_clock() {
        let start = Instant::now();
        let mut timing = Timing::new(start, None, 60 * SECOND);
        assert!(!timing.caller_is_lost(start + 79 * SECOND));
        assert!(timing.caller_is_lost(start + 80 * SECOND));
        timing.heard(start);
        timing.caller_gone(start + 10 * SECOND);
        assert!(timing.caller_is_lost(start + 70 * SECOND));
        timing.heard(start + 60 * SECOND);
        assert!(!timing.caller_is_lost(start + 139 * SECOND));
    }

    #[test]
    fn the_timeout_counts_from_the_start_of_the_process() {
        let start = Instant::now();
        let mut timing = Timing::new(start, Some(1000), 60 * SECOND);
        assert!(!timing.is_timed_out(start + 100 * SECOND));
        timing.process_started(start + 5 * SECOND);
        assert!(!timing.is_timed_out(start + 5 * SECOND));
        assert_eq!(timing.deadline(start, false, false, false), start + 6 * SECOND);
        assert!(timing.is_timed_out(start + 6 * SECOND));
        let mut endless = Timing { timeout: Some(Duration::from_millis(u64::MAX)), ..timing };
        assert!(!endless.is_timed_out(start + 6 * SECOND));
    }

    #[test]
    fn a_dead_line_of_a_finished_job_is_only_its_caller() {
        let start = Instant::now();
        let mut timing = Timing::new(start, Some(1000), 60 * SECOND);
        timing.process_started(start);
        timing.process_exited(start);
        assert_eq!(timing.deadline(start, true, false, true), start + OUTPUT_GRACE);
        assert_eq!(timing.deadline(start, true, true, true), start + CALLER_SILENCE + 60 * SECOND);
    }

    #[test]
    fn what_the_clock_has_done_does_not_keep_it_ringing() {
        let start = Instant::now();
        let mut timing = Timing::new(start, Some(1000), SECOND);
        timing.process_started(start);
        let now = start + 100 * SECOND;
        assert!(timing.is_timed_out(now) && timing.alive_is_due(now) && timing.caller_is_lost(now));
        assert!(!timing.is_timed_out(now) && !timing.alive_is_due(now) && !timing.caller_is_lost(now));
        assert!(timing.deadline(now, true, false, false) > now, "it takes a while to stop a command");
        timing.over(now);
        assert!(!timing.caller_is_lost(now) && timing.caller_is_lost(now + CALLER_SILENCE + SECOND));
    }

    #[test]
    fn a_job_without_a_stream_may_run_for_hours() {
        let start = Instant::now();
        let mut timing = Timing::new(start, None, SECOND);
        timing.process_started(start);
        let now = start + 10 * FAR;
        assert!(timing.deadline(now, false, false, false) > now);
    }
}
