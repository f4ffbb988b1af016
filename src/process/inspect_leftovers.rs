//! Inspects what dead daemons left behind, without changing it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::cgroup;
use super::containment::JobScope;
use super::hierarchy::{self, BASE_DIGITS, BASE_PREFIX, JOB_PREFIX};
use super::kill_leftovers::job_of;
use super::members::Members;
use super::process_key::ProcessKey;
use peerbus_protocol::JobId;

/// The processes in a job scope now.
///
/// # Errors
/// When they cannot be listed.
pub fn inhabitants(job_scope: &JobScope) -> io::Result<Vec<ProcessKey>> {
    let members = match job_scope {
        JobScope::Cgroup { path } => Members::in_cgroup(path),
        JobScope::Reaper { lock } => Members::marked(job_of(lock)?),
    };
    let found = members.list()?.into_iter().map(|member| ProcessKey::of(member.pid));
    // Skip a process that has just exited.
    Ok(found.filter_map(Result::ok).collect())
}

/// Whether a process holds the lock of a file. A missing file is not locked.
///
/// # Errors
/// When this cannot be checked.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The existing cgroup directories for the jobs and shims of this state directory. They are identified by
/// name, anywhere in the hierarchy.
///
/// # Errors
/// When the state directory cannot be read.
pub fn cgroups_of(state_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let state_dir = state_dir.canonicalize()?;
    let digest = blake3::hash(state_dir.as_os_str().as_bytes()).to_hex();
    Ok(hierarchy::all_named(&format!("{BASE_PREFIX}{}", &digest[..BASE_DIGITS])))
}

/// The existing job scopes of a daemon with this state directory.
///
/// # Errors
/// When the directory cannot be read.
pub fn job_scopes_of(state_dir: &Path) -> io::Result<Vec<(JobId, JobScope)>> {
    let mut found = Vec::new();
    for base in cgroups_of(state_dir)? {
        for path in cgroup::children(&base)? {
            let job = path.file_name().and_then(|name| name.to_str()?.strip_prefix(JOB_PREFIX)?.parse().ok());
            found.extend(job.map(|job| (job, JobScope::Cgroup { path })));
        }
    }
    for lock in files_in(&state_dir.canonicalize()?.join("reapers"))? {
        found.extend(job_of(&lock).ok().map(|job| (job, JobScope::Reaper { lock })));
    }
    found.sort_by_key(|(job, _)| *job);
    Ok(found)
}

fn files_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| entry.map(|entry| entry.path())).collect(),
    }
}
