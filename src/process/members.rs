//! The processes of a job that are alive now, by whichever way they are kept together.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::cgroup::Cgroup;
use super::identity::Identity;
use super::pidfd::PidFd;
use super::signal::Signal;
use super::stat::Stat;
use crate::protocol::JobId;

/// How to find them.
#[derive(Debug)]
pub(super) enum Members {
    /// All in a cgroup.
    Cgroup(Cgroup),
    /// All below a process that orphans of its tree are given to.
    Descendants(Descendants),
    /// All that carry the job's id in their environment: what is left when the reaper was killed.
    Marked(Mark),
}

/// The tree below a reaper, without the reaper itself.
#[derive(Debug)]
pub(super) struct Descendants {
    reaper: Identity,
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

    /// One look at them. Processes that start or end during it may be missing.
    pub(super) fn list(&self) -> Vec<Stat> {
        let found = match self {
            Self::Cgroup(cgroup) => in_cgroup(cgroup),
            Self::Descendants(tree) => tree.list(),
            Self::Marked(mark) => mark.list(),
        };
        let own = std::process::id();
        found.into_iter().filter(|stat| stat.is_running && stat.pid != own).collect()
    }

    /// Whether none is alive and none can appear any more.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Cgroup(cgroup) => cgroup.is_empty(),
            Self::Descendants(tree) => tree.is_empty(),
            Self::Marked(_) => self.list().is_empty(),
        }
    }

    /// Kills all that are found now.
    pub(super) fn kill(&self) {
        if let Self::Cgroup(cgroup) = self
            && cgroup.kill().is_ok()
        {
            return;
        }
        for member in self.list() {
            let _ = send(&member, Signal::KILL);
        }
    }

    /// The reaper is about to leave: from now on they are found without it.
    pub(super) fn release(&self) {
        if let Self::Descendants(tree) = self {
            tree.released.store(true, Ordering::Release);
        }
    }

    /// Gives back what only holds the members together.
    pub(super) fn dispose(&self) {
        if let Self::Cgroup(cgroup) = self {
            cgroup.remove();
        }
    }
}

/// Signals the process that was seen, or none: not the next one with that pid.
pub(super) fn send(seen: &Stat, signal: Signal) -> io::Result<()> {
    let process = PidFd::open(seen.pid)?;
    match Stat::of(seen.pid) {
        Some(now) if now.start_time == seen.start_time => process.signal(signal),
        _ => Err(io::Error::from_raw_os_error(nix::libc::ESRCH)),
    }
}

/// A pid may be given to a foreign process between reading the list and asking about it; such a one
/// is not on the list the second time.
fn in_cgroup(cgroup: &Cgroup) -> Vec<Stat> {
    let stats: Vec<Stat> = cgroup.pids().into_iter().filter_map(Stat::of).collect();
    let still: HashSet<u32> = cgroup.pids();
    stats.into_iter().filter(|stat| still.contains(&stat.pid)).collect()
}

impl Descendants {
    /// `nobody_left` is set once the reaper has no child left. Then it never gets one again: this is
    /// exact, where a look at all processes may miss one that starts meanwhile.
    pub(super) fn new(reaper: Identity, job: JobId, nobody_left: Arc<AtomicBool>) -> Self {
        Self { reaper, nobody_left, released: AtomicBool::new(false), mark: Mark::of(job) }
    }

    fn list(&self) -> Vec<Stat> {
        if self.nobody_left.load(Ordering::Acquire) {
            return Vec::new();
        }
        let tree = self.below_reaper();
        // Asked after the look: when the reaper ends, what was below it no longer is.
        if self.has_reaper() { tree } else { self.mark.list() }
    }

    fn is_empty(&self) -> bool {
        self.nobody_left.load(Ordering::Acquire) || (!self.has_reaper() && self.mark.list().is_empty())
    }

    fn has_reaper(&self) -> bool {
        !self.released.load(Ordering::Acquire) && self.reaper.is_alive()
    }

    fn below_reaper(&self) -> Vec<Stat> {
        let mut others = Stat::all();
        let mut tree = Vec::new();
        let mut parents = HashSet::from([self.reaper.pid]);
        loop {
            let (below, rest): (Vec<Stat>, Vec<Stat>) =
                others.into_iter().partition(|stat| parents.contains(&stat.parent));
            if below.is_empty() {
                return tree;
            }
            parents = below.iter().map(|stat| stat.pid).collect();
            tree.extend(below);
            others = rest;
        }
    }
}

/// What every process of a job has in its environment, unless it took it out.
#[derive(Debug, Clone)]
pub(super) struct Mark(Vec<u8>);

impl Mark {
    fn of(job: JobId) -> Self {
        Self(format!("PEERBUS_JOB={job}").into_bytes())
    }

    fn list(&self) -> Vec<Stat> {
        Stat::all().into_iter().filter(|stat| self.is_on(stat)).collect()
    }

    fn is_on(&self, stat: &Stat) -> bool {
        environment_of(stat).split(|&byte| byte == 0).any(|variable| variable == self.0)
    }
}

/// A process seems to have no environment while it executes another program, so that is looked at
/// again a few times.
fn environment_of(stat: &Stat) -> Vec<u8> {
    const LOOKS: u32 = 5;
    const PAUSE: Duration = Duration::from_micros(200);
    for _ in 0..LOOKS {
        match std::fs::read(format!("/proc/{}/environ", stat.pid)) {
            Ok(environment) if environment.is_empty() && !stat.is_of_kernel() => std::thread::sleep(PAUSE),
            read => return read.unwrap_or_default(),
        }
    }
    Vec::new()
}
