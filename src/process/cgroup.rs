//! One cgroup of the second version: a set of processes that none of them leaves by forking.
//!
//! A job may make cgroups below its own, so everything here is done for the whole subtree. A
//! directory that does not exist is a cgroup without processes.
//!
//! Limit: a job of root can move itself out.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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

    /// Makes it, and those above it, where they are missing.
    pub(super) fn create(&self) -> io::Result<()> {
        fs::create_dir_all(&self.path)
    }

    /// The processes in it; zombies are not among them.
    pub(super) fn pids(&self) -> HashSet<u32> {
        self.subtree().iter().flat_map(|path| pids_in(path)).collect()
    }

    /// Whether no process is in it, in one look and therefore exact.
    pub(super) fn is_empty(&self) -> bool {
        match fs::read_to_string(self.path.join("cgroup.events")) {
            Ok(events) => !events.lines().any(|line| line == "populated 1"),
            Err(error) => error.kind() == io::ErrorKind::NotFound || self.pids().is_empty(),
        }
    }

    /// Kills all of it at once, whatever is forked meanwhile. `NotFound` before Linux 5.14.
    pub(super) fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Removes it and what is below. One that is not empty stays, and so do those above it.
    pub(super) fn remove(&self) {
        for path in self.subtree().iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }

    /// It and all below, each after the one above it.
    fn subtree(&self) -> Vec<PathBuf> {
        let mut all = vec![self.path.clone()];
        let mut next = 0;
        while let Some(path) = all.get(next).cloned() {
            all.extend(children(&path));
            next += 1;
        }
        all
    }
}

/// The cgroups directly below one.
pub(super) fn children(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// A process of another pid namespace is shown as 0, and nothing can be done to it from here.
fn pids_in(path: &Path) -> Vec<u32> {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid != 0).collect()
}
