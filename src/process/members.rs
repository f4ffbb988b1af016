//! Lists the living processes of a job, for each kind of containment.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::cgroup::Cgroup;
use super::pidfd::PidFd;
use super::process_key::ProcessKey;
use super::signal::Signal;
use super::stat::{Stat, is_gone};
use peerbus_protocol::JobId;

/// How to find them.
#[derive(Debug)]
pub(super) enum Members {
    /// All processes in a cgroup.
    Cgroup(Cgroup),
    /// All processes below a reaper, a child subreaper.
    Descendants(Descendants),
    /// All processes with the job's id in their environment. The last resort when the reaper was killed.
    Marked(Mark),
}

/// The processes below a reaper, without the reaper itself.
#[derive(Debug)]
pub(super) struct Descendants {
    reaper: ProcessKey,
    nobody_left: Arc<AtomicBool>,
    released: AtomicBool,
    mark: Mark,
}

impl Members {
    pub(super) fn in_cgroup(path: &Path) -> Self {
        Self::Cgroup(Cgroup::at(path))
    }

    pub(super) fn marked(job: JobId) -> Self {
        Self::Marked(Mark::of(job))
    }

    /// The living processes, the oldest first, so that a shell that waits for a command receives a signal
    /// before the command exits by it. Processes that start or exit meanwhile may be missing.
    ///
    /// # Errors
    /// When the processes cannot be listed, for example for lack of descriptors.
    pub(super) fn list(&self) -> io::Result<Vec<Stat>> {
        let found = match self {
            Self::Cgroup(cgroup) => in_cgroup(cgroup),
            Self::Descendants(tree) => tree.list(),
            Self::Marked(mark) => mark.list(),
        };
        let own = std::process::id();
        let mut alive: Vec<Stat> =
            found?.into_iter().filter(|stat| stat.is_running && stat.pid != own).collect();
        alive.sort_unstable_by_key(|stat| (stat.start_time, stat.pid));
        Ok(alive)
    }

    /// Whether no process is alive and none can appear.
    ///
    /// # Errors
    /// As [`Members::list`].
    pub(super) fn is_empty(&self) -> io::Result<bool> {
        match self {
            Self::Cgroup(cgroup) => cgroup.is_empty(),
            Self::Descendants(tree) => tree.is_empty(),
            Self::Marked(_) => Ok(self.list()?.is_empty()),
        }
    }

    /// Whether it is certain that no process is left. False on errors.
    pub(super) fn are_surely_gone(&self) -> bool {
        self.is_empty().unwrap_or(false)
    }

    /// Kills all visible processes. The next listing tells whether any are left.
    pub(super) fn kill(&self) {
        if let Self::Cgroup(cgroup) = self
            && cgroup.kill().is_ok()
        {
            return;
        }
        for member in self.list().unwrap_or_default() {
            let _ = send(&member, Signal::KILL);
        }
    }

    /// Resumes a reaper that was stopped with SIGSTOP, so that it can report that nothing is left.
    pub(super) fn wake_reaper(&self) {
        if let Self::Descendants(tree) = self {
            tree.signal_reaper(Signal::CONT);
        }
    }

    /// Kills a stopped or hanging reaper: it has not reported that nothing is left, although no process is
    /// visible. Remaining processes are then found by their mark.
    pub(super) fn kill_silent_reaper(&self) {
        if let Self::Descendants(tree) = self
            && tree.reaper.pid != std::process::id()
            && tree.list().is_ok_and(|found| !found.iter().any(|stat| stat.is_running))
            && tree.has_reaper().unwrap_or(false)
        {
            tracing::error!(pid = tree.reaper.pid, "the reaper of a job does not answer, and is killed");
            tree.signal_reaper(Signal::KILL);
        }
    }

    /// The reaper is about to exit: from now on find the processes without it.
    pub(super) fn release(&self) {
        if let Self::Descendants(tree) = self {
            tree.released.store(true, Ordering::Release);
        }
    }

    /// Releases the containment, such as the cgroup.
    pub(super) fn dispose(&self) {
        if let Self::Cgroup(cgroup) = self {
            cgroup.remove();
        }
    }
}

/// Signals exactly the process in `seen`, never a later one with the same pid.
pub(super) fn send(seen: &Stat, signal: Signal) -> io::Result<()> {
    let process = PidFd::open(seen.pid)?;
    match Stat::of(seen.pid)? {
        Some(now) if now.start_time == seen.start_time => process.signal(signal),
        _ => Err(io::Error::from_raw_os_error(nix::libc::ESRCH)),
    }
}

/// Lists a cgroup twice: between listing and reading `/proc`, a pid may be reused by a foreign process. The
/// second list does not contain it.
fn in_cgroup(cgroup: &Cgroup) -> io::Result<Vec<Stat>> {
    let mut stats = Vec::new();
    for pid in cgroup.pids()? {
        stats.extend(Stat::of(pid)?);
    }
    let still: HashSet<u32> = cgroup.pids()?;
    stats.retain(|stat| still.contains(&stat.pid));
    Ok(stats)
}

impl Descendants {
    /// `nobody_left` is set when the reaper has no child left; then it never gets another one. This is exact,
    /// while a listing of all processes may miss one that starts meanwhile.
    pub(super) fn new(reaper: ProcessKey, job: JobId, nobody_left: Arc<AtomicBool>) -> Self {
        Self { reaper, nobody_left, released: AtomicBool::new(false), mark: Mark::of(job) }
    }

    fn list(&self) -> io::Result<Vec<Stat>> {
        if self.nobody_left.load(Ordering::Acquire) {
            return Ok(Vec::new());
        }
        let tree = self.below_reaper()?;
        // Check after the listing: once the reaper exits, its descendants are no longer below it.
        if self.has_reaper()? { Ok(tree) } else { self.mark.list() }
    }

    fn is_empty(&self) -> io::Result<bool> {
        if self.nobody_left.load(Ordering::Acquire) {
            return Ok(true);
        }
        Ok(!self.has_reaper()? && self.mark.list()?.is_empty())
    }

    fn signal_reaper(&self, signal: Signal) {
        // Verify the identity after opening: the pid may have been reused before.
        let handle = PidFd::open(self.reaper.pid);
        if let (Ok(handle), Ok(true)) = (handle, self.has_reaper()) {
            let _ = handle.signal(signal);
        }
    }

    fn has_reaper(&self) -> io::Result<bool> {
        Ok(!self.released.load(Ordering::Acquire) && self.reaper.is_alive()?)
    }

    fn below_reaper(&self) -> io::Result<Vec<Stat>> {
        let mut others = Stat::all()?;
        let mut tree = Vec::new();
        let mut parents = HashSet::from([self.reaper.pid]);
        loop {
            let (below, rest): (Vec<Stat>, Vec<Stat>) =
                others.into_iter().partition(|stat| parents.contains(&stat.parent));
            if below.is_empty() {
                return Ok(tree);
            }
            parents = below.iter().map(|stat| stat.pid).collect();
            tree.extend(below);
            others = rest;
        }
    }
}

/// The variable in the environment of every process of a job, unless the process removed it.
#[derive(Debug, Clone)]
pub(super) struct Mark(Vec<u8>);

impl Mark {
    fn of(job: JobId) -> Self {
        Self(format!("PEERBUS_JOB={job}").into_bytes())
    }

    fn list(&self) -> io::Result<Vec<Stat>> {
        let mut marked = Vec::new();
        for stat in Stat::all()? {
            if self.is_on(&stat)? {
                marked.push(stat);
            }
        }
        Ok(marked)
    }

    fn is_on(&self, stat: &Stat) -> io::Result<bool> {
        Ok(environment_of(stat)?.split(|&byte| byte == 0).any(|variable| variable == self.0))
    }
}

/// The job whose mark a process carries.
pub(super) fn mark_of(pid: u32) -> Option<JobId> {
    let environment = environment_of(&Stat::of(pid).ok()??).ok()?;
    let mut variables = environment.split(|&byte| byte == 0);
    let mark = variables.find_map(|variable| variable.strip_prefix(b"PEERBUS_JOB="))?;
    std::str::from_utf8(mark).ok()?.parse().ok()
}

/// Reads the environment. It looks empty during an exec, so this retries a few times. A process that we may
/// not read belongs to no job of ours.
fn environment_of(stat: &Stat) -> io::Result<Vec<u8>> {
    const LOOKS: u32 = 5;
    const PAUSE: Duration = Duration::from_micros(200);
    for _ in 0..LOOKS {
        match std::fs::read(format!("/proc/{}/environ", stat.pid)) {
            Ok(environment) if environment.is_empty() && !stat.is_of_kernel() => std::thread::sleep(PAUSE),
            Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::PermissionDenied => break,
            read => return read,
        }
    }
    Ok(Vec::new())
}
