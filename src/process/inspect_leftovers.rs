//! Looking at what daemons leave behind, without touching it.

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

/// The processes that live in a job_scope now, by the way they are kept together there.
///
/// # Errors
/// When they cannot be looked at.
pub fn inhabitants(job_scope: &JobScope) -> io::Result<Vec<ProcessKey>> {
    let members = match job_scope {
        JobScope::Cgroup { path } => Members::in_cgroup(path),
        JobScope::Reaper { lock } => Members::marked(job_of(lock)?),
    };
    let found = members.list()?.into_iter().map(|member| ProcessKey::of(member.pid));
    // One that has ended in between is none.
    Ok(found.filter_map(Result::ok).collect())
}

/// Whether somebody holds the lock of a file. One that is not there is held by nobody.
///
/// # Errors
/// When that cannot be looked at.
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

/// The directories that daemons of this state directory have for the cgroups of their jobs and shims, as far as
/// they are still there. Whose one is tells its name, wherever on the machine that daemon was.
///
/// # Errors
/// When the state directory cannot be looked at.
pub fn cgroups_of(state_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let state_dir = state_dir.canonicalize()?;
    let digest = blake3::hash(state_dir.as_os_str().as_bytes()).to_hex();
    Ok(hierarchy::all_named(&format!("{BASE_PREFIX}{}", &digest[..BASE_DIGITS])))
}

/// The job_scopes that a daemon of this state directory has made and that are still there.
///
/// # Errors
/// When the directory cannot be looked at.
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
