//! A shim that does not answer, while somebody wants its job to end.
//!
//! Nothing follows of a shim that is slow, as on a machine that swaps, until its job is to be stopped: that never
//! depends on its answer. From then on it is asked how it is, once a second. One that stands still is woken. One that
//! has not said a word for [`ANSWERS_WITHIN`] is killed, and what it leaves of its job is stopped as that of any shim
//! that died.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::super::job::blocking;
use peerbus_process::{ProcessHandle, ProcessKey, Signal};
use peerbus_shim::JobDir;

/// How long it may be silent. It answers within milliseconds, within a second or two on a machine under heavy load.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// How often it is asked.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Watches over a shim once it is begun.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    watch: Option<Watch>,
    killed: Option<ProcessKey>,
}

#[derive(Debug, Clone, Copy)]
struct Watch {
    /// When it was heard last.
    heard: Instant,
    ask: Instant,
}

impl Watchdog {
    /// Its job is to end.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        self.watch.get_or_insert(Watch { heard: now, ask: now + ASK_AGAIN });
    }

    /// It has said something.
    pub(super) fn heard(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.heard = Instant::now();
        }
    }

    /// Its job has ended.
    pub(super) fn end(&mut self) {
        self.watch = None;
    }

    /// Waits until it is to be asked again. Cancel safe.
    pub(super) async fn due(&self) {
        match self.watch {
            Some(watch) => sleep_until(watch.ask).await,
            None => std::future::pending().await,
        }
    }

    /// The shim was asked: wakes one that does not answer, or kills it.
    pub(super) async fn look(&mut self, place: &JobDir) {
        let Some(watch) = &mut self.watch else { return };
        let now = Instant::now();
        let silent = now - watch.heard;
        watch.ask = now + ASK_AGAIN;
        if silent < ASK_AGAIN {
            return;
        }
        let signal = if silent >= ANSWERS_WITHIN { Signal::KILL } else { Signal::CONT };
        match signalled(place, signal).await {
            Ok(Some(shim)) if signal == Signal::KILL => {
                let (pid, silent) = (shim.pid, silent.as_secs());
                tracing::error!(place = %place.directory().display(), pid, silent, "a shim that does not answer is killed");
                watch.heard = now;
                self.killed = Some(shim);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(place = %place.directory().display(), %error, "a shim that does not answer cannot be signalled");
            }
        }
    }

    /// What it was killed for, where it was.
    pub(super) fn verdict(&self) -> Option<String> {
        let pid = self.killed.as_ref()?.pid;
        let limit = ANSWERS_WITHIN.as_secs();
        Some(format!(
            "it was stopped, and its shim, process {pid}, did not answer for {limit} s and was killed"
        ))
    }
}

/// Signals the shim of a job, where it lives and has written down who it is.
async fn signalled(place: &JobDir, signal: Signal) -> io::Result<Option<ProcessKey>> {
    let place = place.clone();
    let Some(about) = blocking(move || place.about()).await? else { return Ok(None) };
    let Some(shim) = ProcessHandle::open(&about.shim)? else { return Ok(None) };
    shim.signal(signal)?;
    Ok(Some(about.shim))
}
