//! Kills a shim that does not answer while its job should end.
//!
//! A slow shim, as on a machine that swaps, does no harm until its job must stop. Stopping never depends on the
//! shim's answer. From then on the daemon probes the shim once a second. It resumes a stopped shim with SIGCONT. It
//! kills a shim that has been silent for [`ANSWERS_WITHIN`], and stops the job's leftover processes as after any
//! dead shim.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::job::blocking;
use peerbus_process::{ProcessHandle, ProcessKey, Signal};
use peerbus_shim::JobDir;

/// Silence after which the shim is killed. It answers within milliseconds, or a second or two under heavy load.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Interval of probes.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Watches a shim, once `begin` was called.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    watch: Option<Watch>,
    killed: Option<ProcessKey>,
}

#[derive(Debug, Clone, Copy)]
struct Watch {
    /// When it last sent something.
    heard: Instant,
    ask: Instant,
}

impl Watchdog {
    /// Starts watching: the job should end.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        self.watch.get_or_insert(Watch { heard: now, ask: now + ASK_AGAIN });
    }

    /// Records a message of the shim.
    pub(super) fn heard(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.heard = Instant::now();
        }
    }

    /// Stops watching: the job has ended.
    pub(super) fn end(&mut self) {
        self.watch = None;
    }

    /// Waits until the next probe is due. Cancel safe.
    pub(super) async fn due(&self) {
        match self.watch {
            Some(watch) => sleep_until(watch.ask).await,
            None => std::future::pending().await,
        }
    }

    /// Runs after each probe: resumes a shim that does not answer, or kills it.
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

    /// Why the shim was killed, if it was.
    pub(super) fn verdict(&self) -> Option<String> {
        let pid = self.killed.as_ref()?.pid;
        let limit = ANSWERS_WITHIN.as_secs();
        Some(format!(
            "it was stopped, and its shim, process {pid}, did not answer for {limit} s and was killed"
        ))
    }
}

/// Signals the shim of a job, if it is alive and has recorded its process key.
async fn signalled(place: &JobDir, signal: Signal) -> io::Result<Option<ProcessKey>> {
    let place = place.clone();
    let Some(about) = blocking(move || place.about()).await? else { return Ok(None) };
    let Some(shim) = ProcessHandle::open(&about.shim)? else { return Ok(None) };
    shim.signal(signal)?;
    Ok(Some(about.shim))
}
