//! The phases of a conversation and their clocks, as pure rules.

use std::time::{Duration, Instant};

/// Pauses before the identical request, or the cancel, is sent again.
const REPEATS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Pauses before a resume is sent again; the last one repeats.
const RESUMES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// Silence after which a stream is resumed. The peer says it lives every 5 s.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

/// How long a peer may stay silent before the ending is unknown.
pub(super) const RESUME_FOR: Duration = Duration::from_secs(60);

/// How long after a reconnect "nobody listens" means "not back yet".
pub(super) const SETTLING: Duration = Duration::from_secs(5);

/// Where a conversation stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// The request was sent; nothing has come back.
    Asking(Repeats),
    /// The request went unanswered, or is not wanted any more: it is being taken back.
    Withdrawing(Repeats),
    /// Frames arrive.
    Streaming {
        /// When the last one did.
        heard: Instant,
    },
    /// Something was lost; a new epoch was asked for.
    Resuming {
        /// Since when.
        since: Instant,
        /// How often it was asked for.
        asked: usize,
        /// When it is asked for again.
        next: Instant,
    },
}

/// Something that is said up to four times.
#[derive(Debug)]
pub(super) struct Repeats {
    said: usize,
    next: Instant,
}

/// What a clock asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TimerAction {
    /// Nothing yet.
    Nothing,
    /// Say it again.
    Again,
    /// It was said often enough.
    GiveUp,
}

impl Repeats {
    /// Something to be said at once.
    pub(super) fn starting(now: Instant) -> Self {
        Self { said: 0, next: now }
    }

    /// Whether it was said at all.
    pub(super) fn was_said(&self) -> bool {
        self.said > 0
    }

    /// Whether it was said no more than once.
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

    /// Has it said again now, and counted as before.
    pub(super) fn again_at_once(&mut self, now: Instant) {
        self.next = now;
    }

    /// Has it said again soon, without counting: it surely did not arrive.
    pub(super) fn retry_at(&mut self, at: Instant) {
        self.said = 0;
        self.next = at;
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }
}

/// The pause before the next resume, with jitter, so that a thousand callers that lost one server
/// do not come back as one.
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
