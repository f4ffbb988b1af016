//! Refers to a process by a pidfd, which is never reused for another process, unlike a pid.

#![expect(unsafe_code, reason = "pidfd and wait4 are in no safe API")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::signal::Signal;

/// From the kernel's headers since Linux 6.9: signals the process group that this process leads.
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// The kernel's `siginfo_t` for a queued signal; the `libc` crate does not expose its fields.
#[repr(C, align(8))]
struct QueuedSignal {
    signal: i32,
    error: i32,
    code: i32,
    /// The following fields have pointer alignment.
    padding: i32,
    pid: i32,
    uid: u32,
    /// No value is attached.
    rest: [u64; 13],
}

const _: () = assert!(size_of::<QueuedSignal>() == size_of::<libc::siginfo_t>());

/// One process.
#[derive(Debug)]
pub(super) struct PidFd(OwnedFd);

/// How a command exited, and its resource usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// How it exited.
    pub status: ExitKind,
    /// Its own usage and that of the children it waited for.
    pub usage: Usage,
}

/// How a process exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitKind {
    /// By itself, with this exit code, 0 to 255.
    Code(i32),
    /// By the signal with this number.
    Signal(i32),
    /// Unknown, because the reaper was killed.
    Unknown,
}

/// Resource usage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// User CPU time, in milliseconds.
    pub user_ms: u64,
    /// System CPU time, in milliseconds.
    pub system_ms: u64,
    /// The largest resident set size of one of its processes, in KiB.
    pub max_rss_kib: u64,
}

/// The result of waiting for children.
pub(super) enum Waited {
    /// No child has exited.
    Running,
    /// This child has exited and was reaped.
    Ended(u32, Exit),
    /// There are no children.
    NoChild,
}

impl From<OwnedFd> for PidFd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl PidFd {
    /// Opens the process that has this pid now. The caller must verify its identity afterwards.
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: a plain system call; a descriptor it returns is new and ours.
        unsafe {
            match libc::syscall(libc::SYS_pidfd_open, pid, 0) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Self(OwnedFd::from_raw_fd(fd as RawFd))),
            }
        }
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Becomes readable in the runtime when the process exits.
    pub(super) fn watched(&self) -> io::Result<AsyncFd<Self>> {
        let watched = self.try_clone()?;
        // SAFETY: it keeps its one descriptor, and keeps it open, for as long as it lives.
        Ok(unsafe { AsyncFd::register_with_interest(watched, Interest::READABLE) }?)
    }

    /// Signals the process.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.send(signal, 0)
    }

    /// Signals the process group that this process leads, in one step as a terminal does, even after the
    /// process has exited. `InvalidInput` before Linux 6.9.
    pub(super) fn signal_group(&self, signal: Signal) -> io::Result<()> {
        self.send(signal, PIDFD_SIGNAL_PROCESS_GROUP)
    }

    /// Signals the process with a queued signal, like sigqueue(3).
    pub(super) fn queue(&self, signal: Signal) -> io::Result<()> {
        let details = QueuedSignal {
            signal: signal.number(),
            error: 0,
            code: libc::SI_QUEUE,
            padding: 0,
            pid: nix::unistd::getpid().as_raw(),
            uid: nix::unistd::getuid().as_raw(),
            rest: [0; 13],
        };
        self.send_with(signal, &raw const details, 0)
    }

    fn send(&self, signal: Signal, flags: libc::c_uint) -> io::Result<()> {
        self.send_with(signal, std::ptr::null(), flags)
    }

    /// Null means the default details.
    fn send_with(&self, signal: Signal, details: *const QueuedSignal, flags: libc::c_uint) -> io::Result<()> {
        // SAFETY: a plain system call on an open descriptor; the details are null, or as large as the kernel reads.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.as_raw_fd(), signal.number(), details, flags)
        };
        if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Checks one child or any; does not block.
pub(super) fn wait(child: Option<u32>) -> io::Result<Waited> {
    wait4(child, libc::WNOHANG)
}

/// Blocks until this child has exited.
pub(super) fn wait_for_end(child: u32) -> io::Result<Waited> {
    wait4(Some(child), 0)
}

fn wait4(child: Option<u32>, options: libc::c_int) -> io::Result<Waited> {
    let wanted = child.map_or(-1, |pid| pid as libc::pid_t);
    let mut status = 0;
    loop {
        // SAFETY: the kernel fills in both; a structure of plain numbers may be zero.
        let (pid, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(wanted, &raw mut status, options, &raw mut usage), usage)
        };
        if pid > 0 {
            return Ok(Waited::Ended(pid as u32, Exit { status: kind(status), usage: used(&usage) }));
        }
        if pid == 0 {
            return Ok(Waited::Running);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => return Ok(Waited::NoChild),
            _ => return Err(error),
        }
    }
}

fn kind(status: libc::c_int) -> ExitKind {
    if libc::WIFSIGNALED(status) {
        ExitKind::Signal(libc::WTERMSIG(status))
    } else {
        ExitKind::Code(libc::WEXITSTATUS(status))
    }
}

fn used(usage: &libc::rusage) -> Usage {
    let ms = |time: libc::timeval| (time.tv_sec as u64) * 1000 + (time.tv_usec as u64) / 1000;
    Usage {
        user_ms: ms(usage.ru_utime),
        system_ms: ms(usage.ru_stime),
        max_rss_kib: usage.ru_maxrss.max(0) as u64,
    }
}
