//! A process that somebody else started: a daemon, as the command line sees it.
//!
//! Guarantees: the process that is signalled and waited for is the very one that was named, with the
//! start time and boot of its name; one that got its pid later is never hit.

use std::io;

use nix::libc;
use tokio::io::unix::AsyncFd;

use super::pidfd::PidFd;
use super::process_key::ProcessKey;
use super::signal::Signal;

/// A process that ran when this was made.
#[derive(Debug)]
pub struct ProcessHandle {
    pidfd: PidFd,
    ended: AsyncFd<PidFd>,
}

impl ProcessHandle {
    /// Takes hold of it; `None` when it does not run any more.
    ///
    /// # Errors
    /// When the system gives no handle to it.
    pub fn open(identity: &ProcessKey) -> io::Result<Option<Self>> {
        let pidfd = match PidFd::open(identity.pid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            opened => opened?,
        };
        // Only now is it known whom the handle is of.
        if !identity.is_alive()? {
            return Ok(None);
        }
        let ended = pidfd.watched()?;
        Ok(Some(Self { pidfd, ended }))
    }

    /// Signals it, by a signal that is queued (sigqueue(3)): a daemon knows by that that somebody meant it, also where a job
    /// of its own asks. To signal one that has ended is no failure.
    ///
    /// # Errors
    /// When it is somebody else's.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match self.pidfd.queue(signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent,
        }
    }

    /// Waits until it has ended. Cancel safe, and may be called again.
    ///
    /// # Errors
    /// When the runtime is about to end.
    pub async fn ended(&self) -> io::Result<()> {
        self.ended.readable().await.map(|mut ready| ready.retain_ready())
    }
}
