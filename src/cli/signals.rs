//! The signals that `d` listens to while a command runs.
//!
//! A signal that was ignored when `d` was started stays ignored: `nohup`, `trap '' TERM`, and the shell that starts
//! something in the background and keeps Ctrl-C from it, mean that.

use tokio::signal::unix::{Signal, SignalKind, signal};

use peerbus_process::is_ignored;

/// Listens from now on. Nothing is heard of a signal that is ignored.
pub(super) fn listen(kind: SignalKind) -> Option<Signal> {
    if is_ignored(kind.as_raw_value()) {
        return None;
    }
    signal(kind).ok()
}

/// Waits for a signal; for ever where it is not listened to.
pub(super) async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
