//! Finds the processes that hold a command's output open after its exit.
//!
//! A pipe ends only when nobody can write to it. A remaining process of the command may still write, or may
//! be a server that was started on purpose and never ends. A process counts as a server if it ignores SIGHUP
//! (`nohup srv &`) or has its own session (`setsid srv`): both show that it should outlive its caller.
//!
//! Limits: a process whose descriptors are unreadable, for example of another user, counts as a holder. The
//! holder of a pipe in transit through a socket is invisible.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::members::Members;
use super::stat::{Stat, is_gone};
use peerbus_protocol::exec::OutputHolder;

/// Longest command line to show, in characters.
const COMMAND_SHOWN: usize = 60;

/// The bit of SIGHUP in a signal set.
const HUP: u64 = 1;

/// The result of one check.
#[derive(Debug, Default)]
pub(super) struct HolderScan {
    /// Sorted by start time.
    pub(super) holders: Vec<Holder>,
    /// Whether the check is complete: a process that exits during the check may have passed the output on.
    pub(super) is_whole: bool,
}

/// A process that holds an output open.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) who: OutputHolder,
    start_time: u64,
}

impl Holder {
    fn of(stat: &Stat, is_server: bool) -> Self {
        let who = OutputHolder { pid: stat.pid, command: command_of(stat.pid), server: is_server };
        Self { who, start_time: stat.start_time }
    }

    /// Whether it still runs, or this is unknown.
    pub(super) fn is_alive(&self) -> bool {
        let same = |stat: Stat| stat.is_running && stat.start_time == self.start_time;
        Stat::of(self.who.pid).map_or(true, |stat| stat.is_some_and(same))
    }
}

/// Finds the holders of these outputs, named like the links in `/proc/PID/fd`. `session` is the command's
/// own. Checks processes outside the job only if no member holds an output; nobody waits for those.
///
/// # Errors
/// When the processes cannot be checked, for example for lack of descriptors.
pub(super) fn look(members: &Members, outputs: &[PathBuf], session: u32) -> io::Result<HolderScan> {
    let inside = members.list()?;
    let mut look = HolderScan { holders: Vec::new(), is_whole: true };
    for stat in &inside {
        match holds(stat.pid, outputs)? {
            Holds::Yes | Holds::Hidden => {
                let is_server = stat.session != session || ignores_hup(stat.pid);
                look.holders.push(Holder::of(stat, is_server));
            }
            // Ignore the short-lived children of servers.
            Holds::Gone => look.is_whole &= stat.session != session,
            Holds::No => {}
        }
    }
    if look.holders.is_empty() && look.is_whole {
        look.holders = elsewhere(&inside, outputs)?;
    }
    Ok(look)
}

/// Holders outside the job, such as the master of a shared ssh connection.
fn elsewhere(inside: &[Stat], outputs: &[PathBuf]) -> io::Result<Vec<Holder>> {
    let looked_at: HashSet<u32> = inside.iter().map(|stat| stat.pid).chain([std::process::id()]).collect();
    let mut holders = Vec::new();
    for stat in Stat::all()? {
        if stat.is_running
            && !looked_at.contains(&stat.pid)
            && matches!(holds(stat.pid, outputs)?, Holds::Yes)
        {
            holders.push(Holder::of(&stat, true));
        }
    }
    Ok(holders)
}

enum Holds {
    Yes,
    No,
    /// Its descriptors are unreadable.
    Hidden,
    /// It has exited.
    Gone,
}

fn holds(pid: u32, outputs: &[PathBuf]) -> io::Result<Holds> {
    let descriptors = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(descriptors) => descriptors,
        Err(error) => return unseen(error),
    };
    for descriptor in descriptors {
        let link = match descriptor {
            Ok(descriptor) => descriptor.path(),
            Err(error) => return unseen(error),
        };
        match fs::read_link(&link) {
            Ok(target) if outputs.contains(&target) && keeps_open(&link, &target) => return Ok(Holds::Yes),
            Ok(_) => {}
            // The descriptor was closed meanwhile, or the process has exited.
            Err(error) if is_gone(&error) => {}
            Err(error) => return unseen(error),
        }
    }
    Ok(if Stat::of(pid)?.is_some_and(|stat| stat.is_running) { Holds::No } else { Holds::Gone })
}

fn unseen(error: io::Error) -> io::Result<Holds> {
    match error.kind() {
        _ if is_gone(&error) => Ok(Holds::Gone),
        io::ErrorKind::PermissionDenied => Ok(Holds::Hidden),
        _ => Err(error),
    }
}

/// Writers keep a pipe open; every open descriptor keeps a terminal open.
fn keeps_open(link: &Path, target: &Path) -> bool {
    const MAY_WRITE: u32 = 0o200;
    // An unreadable one was just closed, or counts as writable.
    let can_write = || fs::symlink_metadata(link).map_or(true, |it| it.permissions().mode() & MAY_WRITE != 0);
    target.is_absolute() || can_write()
}

fn ignores_hup(pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & HUP != 0)
}

/// Its command line, or its name if that is unreadable.
fn command_of(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
    let line = match line.trim().is_empty() {
        true => fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned(),
        false => line,
    };
    match line.char_indices().nth(COMMAND_SHOWN) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}
