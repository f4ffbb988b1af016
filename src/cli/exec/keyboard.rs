//! Local input while a command runs: standard input, Ctrl-C, and termination signals.
//!
//! A handled signal no longer ends `d` by default, so `d` must keep handling it for as long as it
//! runs.

use std::io::Read;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::FutureExt;
use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::mpsc;

use crate::exit::{CANCELLED, CliError};
use crate::signals::{listen, received};
use peerbus_client::exec::ExecutionHandle;
use peerbus_process::Blocking;
use peerbus_protocol::frame::OUTPUT_MAX;

/// The read error that ended standard input early, if any. The reading thread sets it.
#[derive(Debug, Clone, Default)]
pub(crate) struct InputLost(Arc<OnceLock<String>>);

impl InputLost {
    /// Reports a read error. The receiver must not take the input so far for all of it. Closing
    /// `to` would say that, so it stays open for as long as `d` runs.
    pub(crate) fn tell<T>(&self, error: &std::io::Error, steering: &ExecutionHandle, to: mpsc::Sender<T>) {
        self.0.get_or_init(|| format!("reading standard input: {error}"));
        steering.input_lost();
        std::mem::forget(to);
    }

    pub(crate) fn why(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

/// Reads standard input on a thread of its own, as the peer grants credit.
pub(super) fn read_stdin(to: mpsc::Sender<Bytes>, steering: ExecutionHandle, lost: InputLost) {
    std::thread::spawn(move || {
        let mut input = Blocking(std::io::stdin());
        let mut buffer = vec![0; OUTPUT_MAX];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if to.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                        return;
                    }
                }
                Err(error) => return lost.tell(&error, &steering, to),
            }
        }
    });
}

/// Ctrl-C, and the signals that end a program.
pub(crate) struct Keys {
    steering: ExecutionHandle,
    /// Whether the command keeps running when `d` ends.
    durable: bool,
    /// Whether Ctrl-C is for `d` and not for the command.
    watching: bool,
    interrupts: Option<Signal>,
    ends: [Option<Signal>; 2],
    pressed: u32,
    ended: u32,
}

impl Keys {
    pub(crate) fn new(steering: ExecutionHandle, durable: bool) -> Self {
        let ends = [listen(SignalKind::terminate()), listen(SignalKind::hangup())];
        Self {
            steering,
            durable,
            watching: false,
            interrupts: listen(SignalKind::interrupt()),
            ends,
            pressed: 0,
            ended: 0,
        }
    }

    /// For a viewer: each of these signals only leaves a durable command.
    pub(crate) fn watching(steering: ExecutionHandle) -> Self {
        Self { watching: true, ..Self::new(steering, true) }
    }

    /// Whether Ctrl-C was pressed.
    pub(crate) fn were_pressed(&self) -> bool {
        self.pressed > 0
    }

    /// Waits for a signal and acts on it.
    pub(crate) async fn pressed(&mut self) {
        let [terminate, hangup] = &mut self.ends;
        tokio::select! {
            () = received(&mut self.interrupts) => self.interrupt(),
            () = received(terminate) => self.end("d was ended"),
            () = received(hangup) => self.end("the caller's terminal was closed"),
        }
    }

    /// The first termination signal stops the job, or detaches if it is durable. The second one
    /// does not wait any longer.
    fn end(&mut self, why: &str) {
        self.ended += 1;
        match self.ended {
            1 if self.durable => self.steering.detach(),
            1 => self.steering.cancel(why),
            _ => self.steering.forget(),
        }
    }

    /// The first Ctrl-C asks all processes of the command to stop, the second kills them, the third
    /// stops waiting for the peer. If the command has ended and other processes hold its output,
    /// Ctrl-C leaves the output to them.
    fn interrupt(&mut self) {
        self.pressed += 1;
        match self.pressed {
            1 if self.watching => self.steering.detach(),
            1 => self.steering.interrupt(),
            2 if !self.watching => self.steering.kill(),
            _ => self.steering.forget(),
        }
    }
}

/// Detects that the user wants to end `d`, not only the current command.
pub(crate) struct Enough {
    signals: [Option<Signal>; 3],
    said: bool,
}

impl Enough {
    /// Starts to listen for signals.
    pub(crate) fn listen() -> Self {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Self { signals: kinds.map(listen), said: false }
    }

    /// Whether such a signal came.
    pub(crate) fn was_said(&mut self) -> bool {
        self.said |= self.said().now_or_never().is_some();
        self.said
    }

    async fn said(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            () = received(interrupt) => {}
            () = received(terminate) => {}
            () = received(hangup) => {}
        }
    }

    /// Runs a step before any job exists; such a signal cancels it.
    pub(super) async fn unless_said<T>(
        doing: impl Future<Output = Result<T, CliError>>,
    ) -> Result<T, CliError> {
        let mut enough = Self::listen();
        tokio::select! {
            done = doing => done,
            () = enough.said() => Err(CliError::new(CANCELLED, "cancelled: before anything was sent")),
        }
    }
}
