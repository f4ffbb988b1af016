//! Finds the job of a process, so that a daemon knows who signals it.
//!
//! A process of a job is in the job's cgroup or carries `PEERBUS_JOB`. A reaped process shows neither, and a
//! shell that ends with `kill $PPID` is often reaped before the daemon can look. So this module remembers the
//! pids of the most recent commands that this process started.
//!
//! Limit: the job of a descendant that has exited and was reaped by its parent is unknown.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::hierarchy::JOB_PREFIX;
use super::members::mark_of;
use peerbus_protocol::JobId;

/// How many commands to remember.
const MOST: usize = 1024;

/// The most recent commands of this process, the latest last.
static STARTED: Mutex<VecDeque<(u32, JobId)>> = Mutex::new(VecDeque::new());

/// Remembers the pid of a job's command.
pub(super) fn remember_command(pid: u32, job: JobId) {
    let mut started = started();
    if started.len() == MOST {
        started.pop_front();
    }
    started.push_back((pid, job));
}

/// Whether this process recently started a command of the job.
#[must_use]
pub fn has_started(job: JobId) -> bool {
    started().iter().any(|(_, known)| *known == job)
}

/// The job of a process, from its cgroup, its mark or its pid. It may belong to another daemon.
pub(super) fn job_of(pid: u32) -> Option<JobId> {
    by_cgroup(pid).or_else(|| mark_of(pid)).or_else(|| by_pid(pid))
}

fn by_cgroup(pid: u32) -> Option<JobId> {
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let unified = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    unified.split('/').rev().find_map(|name| name.strip_prefix(JOB_PREFIX)?.parse().ok())
}

/// Finds a remembered command. A command's pid can be reused once it is reaped; then it belongs to the new
/// process.
fn by_pid(pid: u32) -> Option<JobId> {
    let found = started().iter().rev().find(|(known, _)| *known == pid).map(|(_, job)| *job);
    found.filter(|_| !fs::exists(format!("/proc/{pid}")).unwrap_or(true))
}

fn started() -> MutexGuard<'static, VecDeque<(u32, JobId)>> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_known_by_its_pid_when_it_has_ended() {
        let (mut child, job) = (std::process::Command::new("true").spawn().expect("started"), JobId::new());
        let pid = child.id();
        remember_command(pid, job);
        child.wait().expect("ended");
        assert_eq!(job_of(pid), Some(job));
        assert!(has_started(job) && !has_started(JobId::new()));
    }

    #[test]
    fn a_process_is_known_by_its_mark() {
        let job = JobId::new();
        let mut child = std::process::Command::new("cat")
            .env("PEERBUS_JOB", job.to_string())
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("started");
        assert_eq!(job_of(child.id()), Some(job));
        drop(child.stdin.take());
        child.wait().expect("ended");
    }
}
