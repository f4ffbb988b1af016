//! What is typed, and what the system tells: another size, and that `d` is to end.

use std::io::Read;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::output;

/// As much as is read at once; a person types less.
const AT_ONCE: usize = 4096;

/// Reads keys on a thread of its own, and hands them on as soon as they are typed.
pub(super) fn read_keys(to: mpsc::Sender<Vec<u8>>) {
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = [0; AT_ONCE];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let keys = buffer.get(..count).unwrap_or_default().to_vec();
                    if to.blocking_send(keys).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // The terminal was closed, which SIGHUP tells too.
                Err(error) => return output::say(&format!("reading keys: {error}")),
            }
        }
    });
}

/// What the system tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// The terminal has another size.
    Size,
    /// Ctrl-C, while keys still make signals.
    Interrupt,
    /// `d` is to end.
    End,
}

/// The signals that `d` listens to while somebody sits at a terminal.
pub(super) struct Signals {
    size: Option<Signal>,
    interrupt: Option<Signal>,
    ends: [Option<Signal>; 3],
}

impl Signals {
    pub(super) fn listen() -> Self {
        let listen = |kind| signal(kind).ok();
        let ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        Self {
            size: listen(SignalKind::window_change()),
            interrupt: listen(SignalKind::interrupt()),
            ends: ends.map(listen),
        }
    }

    pub(super) async fn next(&mut self) -> Told {
        let [terminate, hangup, quit] = &mut self.ends;
        tokio::select! {
            () = received(&mut self.size) => Told::Size,
            () = received(&mut self.interrupt) => Told::Interrupt,
            () = received(terminate) => Told::End,
            () = received(hangup) => Told::End,
            () = received(quit) => Told::End,
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
