//! The signals that `d` handles while a command runs.
//!
//! A signal that was ignored when `d` started stays ignored, as `nohup`, `trap '' TERM` and
//! background jobs of a shell expect.

use tokio::signal::unix::{Signal, SignalKind, signal};

use peerbus_process::is_ignored;

/// Starts to listen; `None` for an ignored signal.
pub(super) fn listen(kind: SignalKind) -> Option<Signal> {
    if is_ignored(kind.as_raw_value()) {
        return None;
    }
    signal(kind).ok()
}

/// Waits for a signal; for ever if `d` does not listen to it.
pub(super) async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
