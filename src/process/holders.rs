//! Who holds a command's output open after the command's own end.
//!
//! A pipe ends when nobody can write to it any more, so whatever the command has started and left running may still have
//! something to say, or may be a server that somebody has started on purpose and that will never end. A process looks
//! like a server when it ignores HUP (`nohup srv &`) or is in a session of its own (`setsid srv`): whoever wrote that
//! wanted it to outlive its caller.
//!
//! Limits: a process whose descriptors may not be looked at, as of another user, counts as one that holds the output. A
//! pipe that is on its way through a socket is held by nobody who can be seen.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::members::Members;
use super::stat::{Stat, is_gone};
use peerbus_protocol::exec::OutputHolder;

/// Longest command line that is shown, in characters.
const COMMAND_SHOWN: usize = 60;

/// The bit of HUP in a set of signals.
const HUP: u64 = 1;

/// One look at those who hold an output open.
#[derive(Debug, Default)]
pub(super) struct HolderScan {
    /// In the order in which they have begun.
    pub(super) holders: Vec<Holder>,
    /// Whether it missed nobody: a process that ends while it is looked at may have handed the output on.
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

    /// Whether it has not ended, as far as anybody can tell.
    pub(super) fn is_alive(&self) -> bool {
        let same = |stat: Stat| stat.is_running && stat.start_time == self.start_time;
        Stat::of(self.who.pid).map_or(true, |stat| stat.is_some_and(same))
    }
}

/// Looks who holds one of these outputs, named as the links in `/proc/PID/fd` name them. `session` is the command's own.
/// Others than the members are looked at only where no member is found: they are nobody's to wait for.
///
/// # Errors
/// When nobody can look, as without a free descriptor.
pub(super) fn look(members: &Members, outputs: &[PathBuf], session: u32) -> io::Result<HolderScan> {
    let inside = members.list()?;
    let mut look = HolderScan { holders: Vec::new(), is_whole: true };
    for stat in &inside {
        match holds(stat.pid, outputs)? {
            Holds::Yes | Holds::Hidden => {
                let is_server = stat.session != session || ignores_hup(stat.pid);
                look.holders.push(Holder::of(stat, is_server));
            }
            // A server's short-lived children come and go all the time.
            Holds::Gone => look.is_whole &= stat.session != session,
            Holds::No => {}
        }
    }
    if look.holders.is_empty() && look.is_whole {
        look.holders = elsewhere(&inside, outputs)?;
    }
    Ok(look)
}

/// Those who were handed the output and are none of the job's, as the master of a shared connection of ssh.
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
    /// It may not be looked at.
    Hidden,
    /// It has ended.
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
            // That descriptor was closed meanwhile, or the process has ended.
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

/// A pipe is kept open by those who can write to it, a terminal by everybody who has it open.
fn keeps_open(link: &Path, target: &Path) -> bool {
    const MAY_WRITE: u32 = 0o200;
    // One that cannot be looked at was closed a moment ago, or counts.
    let can_write = || fs::symlink_metadata(link).map_or(true, |it| it.permissions().mode() & MAY_WRITE != 0);
    target.is_absolute() || can_write()
}

fn ignores_hup(pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & HUP != 0)
}

/// What it was started with; where that is not there to be read, its name.
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
