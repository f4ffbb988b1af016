//! The phases of an execution and their timers, as pure rules.

use std::time::{Duration, Instant};

/// Pauses before repeating the identical request or cancel.
const REPEATS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Pauses before repeating a resume; the last one applies to all further repeats.
const RESUMES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// Silence after which the driver resumes a stream. The peer sends a sign of life every 5 s.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

/// Silence after which the ending is unknown.
pub(super) const RESUME_FOR: Duration = Duration::from_secs(60);

/// How long after a reconnect "no responders" may mean "not back yet".
pub(super) const SETTLING: Duration = Duration::from_secs(5);

/// The phase of an execution.
#[derive(Debug)]
pub(super) enum Phase {
    /// The request was sent; no answer yet.
    Asking(Repeats),
    /// The request got no answer, or is no longer wanted: the driver cancels it.
    Withdrawing(Repeats),
    /// Frames arrive.
    Streaming {
        /// Arrival of the last frame.
        heard: Instant,
    },
    /// Something was lost; the driver asks for a new epoch.
    Resuming {
        /// Start of this phase.
        since: Instant,
        /// How many resumes were sent.
        asked: usize,
        /// Time of the next resume.
        next: Instant,
    },
}

/// A message that is sent up to four times.
#[derive(Debug)]
pub(super) struct Repeats {
    said: usize,
    next: Instant,
}

/// What a timer asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TimerAction {
    /// Nothing yet.
    Nothing,
    /// Send again.
    Again,
    /// All attempts are used up.
    GiveUp,
}

impl Repeats {
    /// A message to send at once.
    pub(super) fn starting(now: Instant) -> Self {
        Self { said: 0, next: now }
    }

    /// Whether it was sent at all.
    pub(super) fn was_said(&self) -> bool {
        self.said > 0
    }

    /// Whether it was sent at most once.
    pub(super) fn is_first(&self) -> bool {
        self.said <= 1
    }

    pub(super) fn due(&mut self, now: Instant) -> TimerAction {
        if now < self.next {
            return TimerAction::Nothing;
        }
        if self.said > REPEATS.len() {
            return TimerAction::GiveUp;
        }
        self.next = now + REPEATS[self.said.min(REPEATS.len() - 1)];
        self.said += 1;
        TimerAction::Again
    }

    /// Sends it again now, without using an attempt.
    pub(super) fn again_at_once(&mut self, now: Instant) {
        self.next = now;
    }

    /// Sends it again at `at` and restarts the count, because it surely did not arrive.
    pub(super) fn retry_at(&mut self, at: Instant) {
        self.said = 0;
        self.next = at;
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }
}

/// The pause before the next resume, with jitter, so that a thousand callers that lost one server do
/// not reconnect at once.
pub(super) fn resume_pause(asked: usize) -> Duration {
    RESUMES[asked.min(RESUMES.len() - 1)].mul_f64(rand::random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_said_four_times_and_then_given_up() {
        let start = Instant::now();
        let mut repeats = Repeats::starting(start);
        let mut said = Vec::new();
        for tenths in 0..200 {
            match repeats.due(start + Duration::from_millis(100 * tenths)) {
                TimerAction::Again => said.push(tenths / 10),
                TimerAction::GiveUp => break,
                TimerAction::Nothing => {}
            }
        }
        assert_eq!(said, [0, 1, 3, 7]);
    }
}
