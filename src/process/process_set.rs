//! Everything a job has started and that still lives: signalling, counting and stopping it.
//!
//! Guarantees: a signal reaches the process group of the command first, at once, as a terminal
//! would have it, then every other process of the tree, also those that began a session of their
//! own or whose parents have ended. A pid that was given to someone else is never signalled. When
//! [`ProcessSet::stop`] says that nothing is left, nothing is.
//!
//! Limits: the group is signalled at once since Linux 6.9, one by one before. A look at the tree of
//! a reaper reads all of `/proc`, a few milliseconds on a busy machine.

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

/// How long killed processes may take to be gone. Only one that hangs in the kernel, as on a dead
/// network file system, takes longer than milliseconds.
pub(super) const KILLED_GONE: Duration = Duration::from_secs(5);

/// How long those get whose terminal goes, before they are asked to end in other words.
const HUNG_UP_FOR: Duration = Duration::from_secs(1);

/// The longest pause between two looks at a tree that was asked to end.
const ASKED_PAUSE: Duration = Duration::from_millis(20);

/// The same for one that is being killed: a fork bomb uses every pause.
const KILLED_PAUSE: Duration = Duration::from_millis(1);

/// A job's processes. Clones are the same tree.
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

/// How a tree is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// With TERM.
    Usual,
    /// As when its terminal is closed, and only then with TERM: an interactive shell ignores that, and writes its history
    /// when the terminal goes.
    HangUp,
}

impl Asked {
    /// For one that has a terminal, or has none.
    pub(super) fn with_terminal(has_terminal: bool) -> Self {
        if has_terminal { Self::HangUp } else { Self::Usual }
    }
}

/// The command itself: it began the process group.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) pid: u32,
    pub(super) pidfd: PidFd,
}

/// What stopping a tree came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stopped {
    /// How many processes had to be ended: those alive when it began, and any seen later.
    pub killed: u32,
    /// How many of these did not end when they were asked to, and got KILL.
    pub forced: u32,
    /// How many outlived even KILL, because they hang in the kernel. Normally none.
    pub left: u32,
}

impl Stopped {
    /// Both together.
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

    /// Signals all of the tree.
    ///
    /// # Errors
    /// `NotFound` when nothing lives any more; else what the system says of the last process that
    /// could not be signalled, if there was none that could.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        signal_all(&self.inner.members, self.inner.leader.as_ref(), signal)
    }

    /// How many processes of the tree are alive now. A zombie is not.
    ///
    /// # Errors
    /// When they cannot be looked at, as without a free descriptor.
    pub fn count(&self) -> io::Result<u32> {
        Ok(number_of(self.inner.members.list()?.len()))
    }

    /// Those that are alive now, with the names the kernel has for them. Their command lines are not looked at: those are
    /// in the memory of a process, and whoever reads there may hang with it.
    ///
    /// # Errors
    /// As [`ProcessSet::count`].
    pub fn processes(&self) -> io::Result<Vec<HungProcess>> {
        let name = |pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let process = |pid| HungProcess { pid, program: name(pid).trim_end().to_owned() };
        Ok(self.inner.members.list()?.iter().map(|member| process(member.pid)).collect())
    }

    /// Stops all of the tree: TERM, then KILL for what is left after `grace`. Where it has a terminal, TERM comes a
    /// second after HUP. Returns when the tree is empty, or 5 s after the first KILL if something hangs in the kernel.
    ///
    /// # Errors
    /// When it could not be looked at in all that time: it was signalled as far as it was seen, and
    /// nobody knows what is left.
    pub async fn stop(&self, grace: Duration) -> io::Result<Stopped> {
        let Inner { members, leader, asked, .. } = &*self.inner;
        stop(members, leader.as_ref(), *asked, grace).await
    }

    /// Those it consists of.
    pub(super) fn members(&self) -> &Members {
        &self.inner.members
    }

    /// Whether it is kept together by a reaper of its own. Else whatever lives in the same cgroup belongs to it.
    pub(super) fn has_a_reaper(&self) -> bool {
        self.inner.reaper.is_some()
    }

    /// The job is over: whatever still runs is left alone, on purpose.
    pub fn release(&self) {
        self.inner.members.release();
        if let Some(reaper) = &self.inner.reaper {
            reaper::release(reaper);
        } else if self.inner.members.are_surely_gone() {
            self.inner.members.dispose();
        }
    }
}

/// Stops whatever there is, as [`ProcessSet::stop`] does.
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
            // Nothing is seen that runs, and nobody says that nothing is left: it is for the reaper to say that.
            members.kill_silent_reaper();
            emptied(members, &mut forced, KILLED_GONE, KILLED_PAUSE, Members::kill).await;
        }
    }
    // One that is not seen, as in another pid namespace, is one at least.
    let left = if members.is_empty()? { 0 } else { number_of(members.list()?.len()).max(1) };
    if left == 0 {
        members.dispose();
    }
    let forced_count = forced.count();
    seen.0.extend(forced.0);
    Ok(Stopped { killed: seen.count().saturating_sub(left), forced: forced_count.saturating_sub(left), left })
}

/// Asks all of them to end, and waits for it.
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
    // A stopped process acts on TERM only once it goes on.
    let _ = signal_all(members, leader, Signal::CONT);
    emptied(members, seen, grace.saturating_sub(begin.elapsed()), ASKED_PAUSE, |_| {}).await
}

/// Waits until the members are gone, at most as long as `limit`; does `act` before each look.
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

/// The processes that were ever seen, each once.
#[derive(Default)]
struct Seen(HashSet<(u32, u64)>);

impl Seen {
    fn look(&mut self, members: &Members) {
        // Who is not seen now is seen by a later look, or is gone.
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
            // It ended before it could be signalled, which is nobody's failure.
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
