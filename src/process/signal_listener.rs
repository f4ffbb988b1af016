//! The signals a daemon listens to, and who sent each of them.
//!
//! Guarantees: none is lost. They stay blocked and are read from a signalfd, so one that nobody has read yet waits, also
//! for the program that takes over.
//!
//! Limit: of signals of one kind that come before the first of them was read, the kernel keeps the first.

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

/// Receives the signals that are [held back](super::hold_signals_back).
#[derive(Debug)]
pub struct SignalListener(AsyncFd<SignalFd>);

/// A signal, and who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedSignal {
    /// Which.
    pub signal: Signal,
    /// By whom.
    pub sender: Sender,
    /// Whether it was queued ([`ProcessHandle::signal`](super::ProcessHandle::signal), sigqueue(3)) and not sent by kill(2).
    pub is_queued: bool,
}

/// Who sent a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// A process.
    Process {
        /// Its number.
        pid: u32,
        /// Its real user.
        uid: u32,
        /// The name the kernel has for its program; none where it has ended since.
        program: Option<String>,
        /// The job it belongs to, of whichever daemon.
        job: Option<JobId>,
    },
    /// The kernel, on behalf of the terminal: Ctrl-C, or its end.
    Terminal,
    /// A process that has no number here, as it is in another pid namespace.
    Elsewhere {
        /// Its real user.
        uid: u32,
    },
}

impl SignalListener {
    /// Listens from now on, inside a runtime. To be called by a thread that was made while signals were held back, as
    /// all others have to be.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        hold_signals_back()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let descriptor = SignalFd::with_flags(&listened_to(), flags)?;
        // SAFETY: it keeps its one descriptor, and keeps it open, for as long as it lives.
        Ok(Self(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?))
    }

    /// Waits for the next one. Cancel safe.
    ///
    /// # Errors
    /// What the system says.
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
    /// The job whose process it is.
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
