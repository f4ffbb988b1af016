//! One cgroup (version 2): a set of processes that none of them leaves by forking.
//!
//! A job may create cgroups below its own, so all operations cover the whole subtree. A missing directory
//! counts as a cgroup without processes; an unreadable one does not.
//!
//! Limit: a root job can move itself out.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::libc;

use super::stat::is_gone;

/// The directory of a cgroup.
#[derive(Debug, Clone)]
pub(super) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates it and its missing parents.
    pub(super) fn create(&self) -> io::Result<()> {
        fs::create_dir_all(&self.path)
    }

    /// The processes in it, without zombies.
    ///
    /// # Errors
    /// When a part of it cannot be read.
    pub(super) fn pids(&self) -> io::Result<HashSet<u32>> {
        let mut pids = HashSet::new();
        for path in self.subtree()? {
            pids.extend(pids_in(&path)?);
        }
        Ok(pids)
    }

    /// Whether no process is in it. Exact, because it is a single read.
    ///
    /// # Errors
    /// When it cannot be read, for example for lack of descriptors.
    pub(super) fn is_empty(&self) -> io::Result<bool> {
        match fs::read_to_string(self.path.join("cgroup.events")) {
            Ok(events) => Ok(!events.lines().any(|line| line == "populated 1")),
            Err(error) if is_gone(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Kills all processes at once, even if they fork. `NotFound` before Linux 5.14.
    pub(super) fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Removes the subtree. Cgroups with processes stay, and so do their parents. An unreadable one stays for
    /// a later sweep.
    pub(super) fn remove(&self) {
        for path in self.subtree().unwrap_or_default().iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }

    /// The cgroup and all below it, parents first.
    fn subtree(&self) -> io::Result<Vec<PathBuf>> {
        let mut all = vec![self.path.clone()];
        let mut next = 0;
        while let Some(path) = all.get(next).cloned() {
            all.extend(children(&path)?);
            next += 1;
        }
        Ok(all)
    }
}

/// The direct children of a cgroup; empty if it does not exist.
///
/// # Errors
/// When it cannot be read.
pub(super) fn children(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut directories = Vec::new();
    for entry in entries {
        match entry.and_then(|entry| Ok((entry.file_type()?, entry.path()))) {
            Ok((kind, path)) if kind.is_dir() => directories.push(path),
            Ok(_) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(directories)
}

/// A process of another pid namespace appears as 0 and cannot be signalled from here.
fn pids_in(path: &Path) -> io::Result<Vec<u32>> {
    let text = match fs::read_to_string(path.join("cgroup.procs")) {
        Ok(text) => text,
        // The parent lists the processes of a threaded cgroup.
        Err(error) if is_gone(&error) || error.raw_os_error() == Some(libc::EOPNOTSUPP) => String::new(),
        Err(error) => return Err(error),
    };
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid != 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_cannot_be_read_is_not_empty() {
        let directory = tempfile::tempdir().expect("a directory");
        let cgroup = Cgroup::at(directory.path());
        assert!(cgroup.is_empty().expect("nothing is there"));
        // A directory, which cannot be read as a file.
        fs::create_dir(directory.path().join("cgroup.events")).expect("made");
        assert!(cgroup.is_empty().is_err());
        fs::create_dir(directory.path().join("cgroup.procs")).expect("made");
        assert!(cgroup.pids().is_err());
        assert!(Cgroup::at(&directory.path().join("not-there")).pids().expect("none").is_empty());
    }
}
