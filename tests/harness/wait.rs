//! Waiting for something to become true, with a deadline and a sentence for when it does not.

use std::time::{Duration, Instant};

/// How often a condition that gives no event of its own is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How much longer than a look the pause after it is: a look at all processes takes so long that it would keep a
/// processor busy which what is waited for needs.
const PAUSE_FOR_A_LOOK: u32 = 4;

/// How rarely it is looked at, at most.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(100);

/// The first `Some` of `look`, or `None` once `deadline` has passed.
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

/// The first `Some` of `look`; fails the test with `what` once `deadline` has passed.
#[track_caller]
pub fn eventually<T>(deadline: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    match within(deadline, look) {
        Some(found) => found,
        None => panic!("waited {deadline:?} in vain for {what}"),
    }
}

/// Fails the test if `look` gives `Some` at any time during `span`: for what must not happen.
#[track_caller]
pub fn never<T: std::fmt::Debug>(span: Duration, what: &str, look: impl FnMut() -> Option<T>) {
    if let Some(found) = within(span, look) {
        panic!("{what}, which must never happen: {found:?}");
    }
}
