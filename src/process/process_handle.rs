//! A handle to a process that somebody else started, such as the daemon as seen from the command line.
//!
//! Guarantees: signals and waits affect exactly the process with the given start time and boot id, never a
//! later one with the same pid.

use std::io;

use nix::libc;
use tokio::io::unix::AsyncFd;

use super::pidfd::PidFd;
use super::process_key::ProcessKey;
use super::signal::Signal;

/// A process that was running when this was created.
#[derive(Debug)]
pub struct ProcessHandle {
    pidfd: PidFd,
    ended: AsyncFd<PidFd>,
}

impl ProcessHandle {
    /// Opens a handle; `None` if the process no longer runs.
    ///
    /// # Errors
    /// When the system gives no handle.
    pub fn open(identity: &ProcessKey) -> io::Result<Option<Self>> {
        let pidfd = match PidFd::open(identity.pid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            opened => opened?,
        };
        // Verify the identity after opening: the pid may have been reused before.
        if !identity.is_alive()? {
            return Ok(None);
        }
        let ended = pidfd.watched()?;
        Ok(Some(Self { pidfd, ended }))
    }

    /// Sends a queued signal (sigqueue(3)). This tells a daemon that the signal was intended, even if one of
    /// its own jobs sends it. Signalling an exited process is not an error.
    ///
    /// # Errors
    /// When the process belongs to another user.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match self.pidfd.queue(signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent,
        }
    }

    /// Waits for the exit. Cancel safe, can be called again.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn ended(&self) -> io::Result<()> {
        self.ended.readable().await.map(|mut ready| ready.retain_ready())
    }
}
