//! The living processes of a job: signals, counts and stops them.
//!
//! Guarantees: a signal goes first to the command's process group, in one step as from a terminal. Then it
//! goes to all other processes of the job, including those in other sessions and those whose parents have
//! exited. A reused pid is never signalled. When [`ProcessSet::stop`] reports that no process is left, none
//! is.
//!
//! Limits: before Linux 6.9 the group's processes are signalled one by one. Listing the processes below a
//! reaper reads all of `/proc`, which takes a few milliseconds on a busy machine.

use std::collections::HashSet;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use tokio::time::{Instant, sleep};

use super::members::{Members, send};
use super::pidfd::PidFd;
use super::reaper;
use super::signal::Signal;
use peerbus_protocol::exec::HungProcess;

/// How long killed processes may take to disappear. Only a process that hangs in the kernel, for example on a
/// dead network file system, takes longer than milliseconds.
pub(super) const KILLED_GONE: Duration = Duration::from_secs(5);

/// Time between SIGHUP and SIGTERM for processes with a terminal.
const HUNG_UP_FOR: Duration = Duration::from_secs(1);

/// The longest pause between two checks after SIGTERM.
const ASKED_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause between two checks after SIGKILL; short, because a fork bomb uses every pause.
const KILLED_PAUSE: Duration = Duration::from_millis(1);

/// A job's processes. Clones share the same set.
#[derive(Debug, Clone)]
pub struct ProcessSet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    members: Members,
    leader: Option<Leader>,
    reaper: Option<UnixStream>,
    asked: Asked,
}

/// How to ask the processes to exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// With SIGTERM.
    Usual,
    /// With SIGHUP, as if the terminal was closed, then with SIGTERM. An interactive shell ignores SIGTERM
    /// but saves its history on SIGHUP.
    HangUp,
}

impl Asked {
    /// The method for a job with or without a terminal.
    pub(super) fn with_terminal(has_terminal: bool) -> Self {
        if has_terminal { Self::HangUp } else { Self::Usual }
    }
}

/// The command itself, the leader of the process group.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) pid: u32,
    pub(super) pidfd: PidFd,
}

/// The result of a stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stopped {
    /// How many processes were stopped: those alive at the beginning, and any seen later.
    pub killed: u32,
    /// How many of those did not exit when asked and received SIGKILL.
    pub forced: u32,
    /// How many survived SIGKILL because they hang in the kernel. Normally none.
    pub left: u32,
}

impl Stopped {
    /// The sum of both.
    #[must_use]
    pub(super) fn and(self, more: Self) -> Self {
        Self {
            killed: self.killed + more.killed,
            forced: self.forced + more.forced,
            left: self.left + more.left,
        }
    }
}

impl ProcessSet {
    pub(super) fn new(
        members: Members,
        leader: Option<Leader>,
        reaper: Option<UnixStream>,
        asked: Asked,
    ) -> Self {
        Self { inner: Arc::new(Inner { members, leader, reaper, asked }) }
    }

    /// Signals all processes.
    ///
    /// # Errors
    /// `NotFound` if no process is alive. Otherwise, if no process could be signalled, the last error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        signal_all(&self.inner.members, self.inner.leader.as_ref(), signal)
    }

    /// How many processes are alive now, without zombies.
    ///
    /// # Errors
    /// When the processes cannot be listed, for example for lack of descriptors.
    pub fn count(&self) -> io::Result<u32> {
        Ok(number_of(self.inner.members.list()?.len()))
    }

    /// The living processes with their kernel names. Never reads command lines: these are in the memory of
    /// the process, and reading them may hang if the process does.
    ///
    /// # Errors
    /// As [`ProcessSet::count`].
    pub fn processes(&self) -> io::Result<Vec<HungProcess>> {
        let name = |pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let process = |pid| HungProcess { pid, program: name(pid).trim_end().to_owned() };
        Ok(self.inner.members.list()?.iter().map(|member| process(member.pid)).collect())
    }

    /// Stops all processes: SIGTERM, then SIGKILL for those left after `grace`. With a terminal, SIGHUP
    /// precedes SIGTERM by one second. Returns when no process is left, or 5 s after the first SIGKILL if one
    /// hangs in the kernel.
    ///
    /// # Errors
    /// When the processes could not be listed in all that time. All visible processes were signalled; how
    /// many are left is unknown.
    pub async fn stop(&self, grace: Duration) -> io::Result<Stopped> {
        let Inner { members, leader, asked, .. } = &*self.inner;
        stop(members, leader.as_ref(), *asked, grace).await
    }

    /// The source of its members.
    pub(super) fn members(&self) -> &Members {
        &self.inner.members
    }

    /// Whether the job has its own reaper. Otherwise the set contains every process in the job's cgroup.
    pub(super) fn has_a_reaper(&self) -> bool {
        self.inner.reaper.is_some()
    }

    /// Ends the supervision: the remaining processes keep running.
    pub fn release(&self) {
        self.inner.members.release();
        if let Some(reaper) = &self.inner.reaper {
            reaper::release(reaper);
        } else if self.inner.members.are_surely_gone() {
            self.inner.members.dispose();
        }
    }
}

/// Implements [`ProcessSet::stop`].
pub(super) async fn stop(
    members: &Members,
    leader: Option<&Leader>,
    asked: Asked,
    grace: Duration,
) -> io::Result<Stopped> {
    let (mut seen, mut forced) = (Seen::default(), Seen::default());
    seen.look(members);
    if !members.are_surely_gone() && !ask(members, leader, &mut seen, asked, grace).await {
        forced.look(members);
        if !emptied(members, &mut forced, KILLED_GONE, KILLED_PAUSE, Members::kill).await {
            // No visible process, but no proof that none is left: only the reaper knows. Kill the reaper if
            // it does not answer.
            members.kill_silent_reaper();
            emptied(members, &mut forced, KILLED_GONE, KILLED_PAUSE, Members::kill).await;
        }
    }
    // A member that is invisible, for example in another pid namespace, counts as one.
    let left = if members.is_empty()? { 0 } else { number_of(members.list()?.len()).max(1) };
    if left == 0 {
        members.dispose();
    }
    let forced_count = forced.count();
    seen.0.extend(forced.0);
    Ok(Stopped { killed: seen.count().saturating_sub(left), forced: forced_count.saturating_sub(left), left })
}

/// Asks all processes to exit, and waits.
async fn ask(
    members: &Members,
    leader: Option<&Leader>,
    seen: &mut Seen,
    asked: Asked,
    grace: Duration,
) -> bool {
    let begin = Instant::now();
    members.wake_reaper();
    if asked == Asked::HangUp {
        let _ = signal_all(members, leader, Signal::HUP);
        let _ = signal_all(members, leader, Signal::CONT);
        if emptied(members, seen, HUNG_UP_FOR.min(grace), ASKED_PAUSE, |_| {}).await {
            return true;
        }
    }
    let _ = signal_all(members, leader, Signal::TERM);
    // A stopped process handles SIGTERM only after SIGCONT.
    let _ = signal_all(members, leader, Signal::CONT);
    emptied(members, seen, grace.saturating_sub(begin.elapsed()), ASKED_PAUSE, |_| {}).await
}

/// Waits up to `limit` until no member is left; calls `act` before each check.
async fn emptied(
    members: &Members,
    seen: &mut Seen,
    limit: Duration,
    longest_pause: Duration,
    act: fn(&Members),
) -> bool {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        act(members);
        if members.are_surely_gone() {
            return true;
        }
        seen.look(members);
        let now = Instant::now();
        if now >= deadline {
            return false;
        }
        sleep(pause.min(deadline - now)).await;
        pause = (pause * 2).min(longest_pause);
    }
}

/// All processes seen so far, each once.
#[derive(Default)]
struct Seen(HashSet<(u32, u64)>);

impl Seen {
    fn look(&mut self, members: &Members) {
        // A failed listing is harmless: a later one finds the process, or it is gone.
        self.0
            .extend(members.list().unwrap_or_default().iter().map(|member| (member.pid, member.start_time)));
    }

    fn count(&self) -> u32 {
        number_of(self.0.len())
    }
}

fn signal_all(members: &Members, leader: Option<&Leader>, signal: Signal) -> io::Result<()> {
    let list = members.list();
    let group = leader.map(|leader| leader.pid);
    let at_once = leader.is_some_and(|leader| leader.pidfd.signal_group(signal).is_ok());
    let (in_group, others): (Vec<_>, Vec<_>) =
        list?.into_iter().partition(|member| Some(member.group) == group);
    let one_by_one = if at_once { others } else { in_group.into_iter().chain(others).collect() };
    let mut outcome = if at_once { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    for member in &one_by_one {
        match send(member, signal) {
            Ok(()) => outcome = Ok(()),
            // It exited before the signal; not an error.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => outcome = outcome.or(Err(error)),
        }
    }
    outcome.map_err(|error| match error.raw_os_error() {
        Some(libc::ESRCH) => io::Error::new(io::ErrorKind::NotFound, "nothing of the job runs any more"),
        _ => error,
    })
}

fn number_of(processes: usize) -> u32 {
    u32::try_from(processes).unwrap_or(u32::MAX)
}
