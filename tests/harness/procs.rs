//! Processes from `/proc`: which ones still run, their parents, and their resources.
//!
//! A marker identifies processes: a unique word among their arguments, or an environment variable
//! such as `PEERBUS_JOB`. Zombies have neither and count as gone.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::{eventually, within};

/// A process at the time of the look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// Its state, as in `ps`: `R`, `S`, `T` (stopped) …
    pub state: char,
    /// Its start time, in clock ticks since boot. With the id it identifies the process for ever.
    pub started: u64,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// A word that no other process has among its arguments: `sh -c '…' MARKER`.
pub fn marker() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    format!("mark-{}-{number}-{now:x}", std::process::id())
}

/// All processes whose arguments contain `marker`, other than this test and `d` itself.
pub fn with_argument(marker: &str) -> Vec<Process> {
    let d = crate::d_program();
    all_pids()
        .filter(|pid| *pid != own_pid())
        .filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).map_or(true, |program| program != d))
        .filter_map(look_at)
        .filter(|process| process.arguments.iter().any(|argument| argument.contains(marker)))
        .collect()
}

/// All processes with `name=value` in their environment, other than this test.
pub fn with_environment(name: &str, value: &str) -> Vec<Process> {
    let wanted = format!("{name}={value}");
    all_pids()
        .filter(|pid| *pid != own_pid())
        .filter(|pid| environment(*pid).contains(&wanted))
        .filter_map(look_at)
        .collect()
}

/// All processes of one job: those with its id as `PEERBUS_JOB`.
pub fn of_job(job: &str) -> Vec<Process> {
    with_environment("PEERBUS_JOB", job)
}

/// Waits until exactly `count` processes carry `marker`, and returns them.
#[track_caller]
pub fn wait_until_running(marker: &str, count: usize, deadline: Duration) -> Vec<Process> {
    let mut seen = Vec::new();
    let found = within(deadline, || {
        seen = with_argument(marker);
        (seen.len() == count).then_some(())
    });
    assert!(found.is_some(), "waited {deadline:?} for {count} processes with {marker}, there are {seen:#?}");
    seen
}

/// Waits until no process carries `marker`.
#[track_caller]
pub fn wait_until_gone(marker: &str, deadline: Duration) {
    eventually_none(deadline, &format!("with {marker}"), || with_argument(marker));
}

/// Waits until no process of this job is left.
#[track_caller]
pub fn wait_until_job_gone(job: &str, deadline: Duration) {
    eventually_none(deadline, &format!("of job {job}"), || of_job(job));
}

#[track_caller]
fn eventually_none(deadline: Duration, whose: &str, find: impl Fn() -> Vec<Process>) {
    let mut left = Vec::new();
    let gone = within(deadline, || {
        left = find();
        left.is_empty().then_some(())
    });
    assert!(gone.is_some(), "after {deadline:?} there are still processes {whose}: {left:#?}");
}

/// The process with this id; `None` if it does not exist or is a zombie.
pub fn look_at(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may contain anything, even parentheses.
    let after_name = &stat[stat.rfind(')')? + 2..];
    let fields: Vec<&str> = after_name.split(' ').collect();
    let state = fields[0].chars().next()?;
    let threads: u32 = fields.get(17)?.parse().ok()?;
    // A main thread that ended before the other threads looks like a zombie.
    if state == 'X' || (state == 'Z' && threads <= 1) {
        return None;
    }
    let arguments = words(&fs::read(format!("/proc/{pid}/cmdline")).ok()?);
    let number = |index: usize| fields.get(index)?.parse::<i32>().ok();
    Some(Process {
        pid,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        state,
        started: fields.get(19)?.parse().ok()?,
        arguments,
    })
}

/// The environment of a process, as `NAME=value`; empty if it cannot be read.
pub fn environment(pid: i32) -> Vec<String> {
    fs::read(format!("/proc/{pid}/environ")).map(|bytes| words(&bytes)).unwrap_or_default()
}

/// The working directory of a process.
pub fn working_directory(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// A process's private memory in bytes, without its program's pages, of which an unoptimised build
/// has many.
pub fn own_bytes(pid: i32) -> u64 {
    status_kib(pid, "RssAnon:") * 1024
}

/// The resident memory of a process, in bytes.
pub fn resident_bytes(pid: i32) -> u64 {
    status_kib(pid, "VmRSS:") * 1024
}

/// The peak resident memory of a process, in bytes.
pub fn peak_resident_bytes(pid: i32) -> u64 {
    status_kib(pid, "VmHWM:") * 1024
}

/// The CPU time of a process, user and system together.
pub fn processor_time(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rfind(')').map_or("", |end| &stat[end + 2..]);
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    // USER_HZ is 100 on all supported Linux systems.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// The number of a process's open files.
pub fn open_files(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or(0)
}

/// All descendants of `pid`.
pub fn descendants(pid: i32) -> Vec<Process> {
    let all: Vec<Process> = all_pids().filter_map(look_at).collect();
    let mut family = HashSet::from([pid]);
    let mut found = Vec::new();
    loop {
        let before = family.len();
        for process in &all {
            if family.contains(&process.parent) && family.insert(process.pid) {
                found.push(process.clone());
            }
        }
        if family.len() == before {
            return found;
        }
    }
}

/// All processes that use `directory`: it is in, or contains, their working directory, an argument,
/// or an environment variable.
pub fn touching(directory: &Path) -> Vec<Process> {
    let text = directory.to_string_lossy().into_owned();
    all_pids()
        .filter(|pid| *pid != own_pid())
        .filter_map(look_at)
        .filter(|process| {
            working_directory(process.pid).is_some_and(|place| place.starts_with(directory))
                || process.arguments.iter().any(|argument| argument.contains(&text))
                || environment(process.pid).iter().any(|entry| entry.contains(&text))
        })
        .collect()
}

/// Kills these processes with SIGKILL, each only if it is still the same process, and waits until
/// they are gone.
pub fn kill_all(processes: &[Process]) {
    let same = |process: &Process| look_at(process.pid).is_some_and(|now| now.started == process.started);
    for process in processes.iter().filter(|process| same(process)) {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    within(Duration::from_secs(5), || (!processes.iter().any(same)).then_some(()));
}

/// Waits until a process has this state, for example `T` after it was stopped.
#[track_caller]
pub fn wait_for_state(pid: i32, state: char, deadline: Duration) {
    eventually(deadline, &format!("process {pid} to be in state {state}"), || {
        look_at(pid).filter(|process| process.state == state)
    });
}

fn status_kib(pid: i32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

fn all_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("reading /proc");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

fn words(bytes: &[u8]) -> Vec<String> {
    bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}
