//! Waiting for a condition, with a deadline and a message for its failure.

use std::time::{Duration, Instant};

/// The shortest pause between two polls of a condition.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The pause after a poll, as a multiple of the poll's duration. Polling all processes is slow, and
/// without the pause it would take CPU time from the process under test.
const PAUSE_FOR_A_LOOK: u32 = 4;

/// The longest pause between two polls.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(100);

/// Polls until `look` returns `Some`; `None` after `deadline`.
pub fn within<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        let begun = Instant::now();
        if let Some(found) = look() {
            return Some(found);
        }
        let now = Instant::now();
        if now >= end {
            return None;
        }
        std::thread::sleep(((now - begun) * PAUSE_FOR_A_LOOK).clamp(LOOK_EVERY, LOOK_AT_LEAST_EVERY));
    }
}

/// Polls until `look` returns `Some`; fails the test with `what` after `deadline`.
#[track_caller]
pub fn eventually<T>(deadline: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    match within(deadline, look) {
        Some(found) => found,
        None => panic!("waited {deadline:?} in vain for {what}"),
    }
}

/// Fails the test if `look` returns `Some` at any time during `span`: for events that must not
/// happen.
#[track_caller]
pub fn never<T: std::fmt::Debug>(span: Duration, what: &str, look: impl FnMut() -> Option<T>) {
    if let Some(found) = within(span, look) {
        panic!("{what}, which must never happen: {found:?}");
    }
}
