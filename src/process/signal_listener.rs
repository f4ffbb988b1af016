//! The signals that a daemon listens to, with their senders.
//!
//! Guarantees: no signal is lost. They stay blocked and are read from a signalfd, so an unread signal stays
//! pending, even across exec.
//!
//! Limit: of several pending signals of one kind, the kernel keeps only the first.

#![expect(unsafe_code, reason = "tokio trusts that a registered descriptor stays open")]

use std::fmt;
use std::fs;
use std::io;

use nix::libc;
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::job_of::job_of;
use super::reexec::{hold_signals_back, listened_to};
use super::signal::Signal;
use peerbus_protocol::JobId;

/// Receives the signals that are [blocked](super::hold_signals_back).
#[derive(Debug)]
pub struct SignalListener(AsyncFd<SignalFd>);

/// A signal and its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedSignal {
    /// The signal.
    pub signal: Signal,
    /// Its sender.
    pub sender: Sender,
    /// Whether it was queued ([`ProcessHandle::signal`](super::ProcessHandle::signal), sigqueue(3)) instead
    /// of sent by kill(2).
    pub is_queued: bool,
}

/// The sender of a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// A process.
    Process {
        /// Its pid.
        pid: u32,
        /// Its real uid.
        uid: u32,
        /// The kernel's name of its program; `None` if it has exited.
        program: Option<String>,
        /// The job it belongs to, of any daemon.
        job: Option<JobId>,
    },
    /// The kernel, for the terminal: Ctrl-C or a hang-up.
    Terminal,
    /// A process in another pid namespace, which has no pid here.
    Elsewhere {
        /// Its real uid.
        uid: u32,
    },
}

impl SignalListener {
    /// Starts to listen, inside a runtime. All threads must have these signals blocked.
    ///
    /// # Errors
    /// The system's error.
    pub fn new() -> io::Result<Self> {
        hold_signals_back()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let descriptor = SignalFd::with_flags(&listened_to(), flags)?;
        // SAFETY: it keeps its one descriptor, and keeps it open, for as long as it lives.
        Ok(Self(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?))
    }

    /// Waits for the next signal. Cancel safe.
    ///
    /// # Errors
    /// The system's error.
    pub async fn recv(&self) -> io::Result<ReceivedSignal> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.get_inner().read_signal()? {
                Some(info) => return received(&info),
                None => ready.clear_ready(),
            }
        }
    }
}

fn received(info: &siginfo) -> io::Result<ReceivedSignal> {
    let number = i32::try_from(info.ssi_signo).unwrap_or_default();
    let signal = Signal::try_from(number).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
    let (pid, uid) = (info.ssi_pid, info.ssi_uid);
    let sender = match pid {
        0 if info.ssi_code == libc::SI_KERNEL => Sender::Terminal,
        0 => Sender::Elsewhere { uid },
        pid => Sender::Process { pid, uid, program: program_of(pid), job: job_of(pid) },
    };
    Ok(ReceivedSignal { signal, sender, is_queued: info.ssi_code == libc::SI_QUEUE })
}

fn program_of(pid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
}

impl Sender {
    /// The job that the sender belongs to.
    #[must_use]
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::Process { job, .. } => *job,
            Self::Terminal | Self::Elsewhere { .. } => None,
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, uid, program: Some(program), .. } => {
                write!(f, "{program} (pid {pid}, uid {uid})")
            }
            Self::Process { pid, uid, program: None, .. } => {
                write!(f, "a process that has ended (pid {pid}, uid {uid})")
            }
            Self::Terminal => f.write_str("the terminal"),
            Self::Elsewhere { uid } => write!(f, "a process outside of this pid namespace (uid {uid})"),
        }
    }
}
