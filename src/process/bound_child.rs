//! A child process whose life is bound to this process: the broker that a daemon starts for itself.
//!
//! Guarantees: the child receives SIGTERM when this process exits for any reason, even by SIGKILL. The kernel
//! binds this to the thread that created the child, so each bound child has a thread that only waits for it.

#![expect(unsafe_code, reason = "the tie to the parent's death is set in the child, between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

use nix::libc;
use tokio::sync::{oneshot, watch};

use super::launch::reset_signals;
use super::pidfd::PidFd;
use super::process_key::ProcessKey;
use super::signal::Signal;

/// A child bound to this process.
#[derive(Debug)]
pub struct BoundChild {
    pidfd: PidFd,
    identity: ProcessKey,
    exit: watch::Receiver<Option<io::Result<ExitStatus>>>,
}

impl BoundChild {
    /// Starts the child.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub async fn start(mut command: Command) -> io::Result<Self> {
        let (tell, exit) = watch::channel(None);
        let (started, wait) = oneshot::channel();
        // SAFETY: it makes only plain system calls, which are allowed between fork and exec.
        unsafe { command.pre_exec(as_bound_child) };
        std::thread::Builder::new().name("bound_child".to_owned()).spawn(move || match command.spawn() {
            Ok(mut child) => {
                // Only this thread waits for it, so the pid cannot be reused before `wait` returns.
                let _ = started.send(opened(child.id()));
                tell.send_replace(Some(child.wait()));
            }
            Err(error) => drop(started.send(Err(error))),
        })?;
        let (pidfd, identity) = wait.await.map_err(io::Error::other)??;
        Ok(Self { pidfd, identity, exit })
    }

    /// Identifies the process.
    #[must_use]
    pub fn identity(&self) -> &ProcessKey {
        &self.identity
    }

    /// Waits for the exit and describes it. Cancel safe, can be called again.
    pub async fn exited(&mut self) -> String {
        match self.exit.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(status))) => status.to_string(),
            Ok(Some(Err(error))) => error.to_string(),
            Ok(None) | Err(_) => "nobody knows how".to_owned(),
        }
    }

    /// Signals the child.
    ///
    /// # Errors
    /// When it has exited.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.pidfd.signal(signal)
    }
}

fn opened(pid: u32) -> io::Result<(PidFd, ProcessKey)> {
    Ok((PidFd::open(pid)?, ProcessKey::of(pid)?))
}

/// Binds the child to this process. Its new files are private to its user, as ours are.
fn as_bound_child() -> io::Result<()> {
    // SAFETY: no pointers are involved.
    unsafe { libc::umask(0o077) };
    // Reset ignored signals, which the child would inherit: SIGTERM must end it.
    reset_signals();
    // SAFETY: no pointers are involved.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
