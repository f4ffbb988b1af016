//! Processes that a test started and that would outlive it: shims with their jobs, detached
//! daemons, and the cgroups of all of them.
//!
//! A state directory is recognized by the folder `reapers` that each daemon makes in it. The locks
//! in it, the process identities beside them and the job scopes prove which processes belong to it.
//! A name proves nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use peerbus_process::{
    JobScope, ProcessHandle, ProcessKey, Signal, StateLock, cgroups_of, clear, inhabitants, is_locked,
    job_scopes_of,
};
use peerbus_shim::JobDir;

/// The deepest level of a state directory below a scratch directory.
const DEEPEST: usize = 6;

/// Timeout until a killed process is gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Kills all of them and removes their cgroups. Names what it cannot kill on standard error.
pub fn end_below(directory: &Path) {
    let states = state_directories(directory, DEEPEST);
    if states.is_empty() {
        return;
    }
    // The caller may already run inside a runtime.
    let all_of_them = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        for state in states {
            for error in runtime.block_on(end(&state)) {
                eprintln!("ending what a test has left in {}: {error}", state.display());
            }
        }
    };
    std::thread::spawn(all_of_them).join().expect("ending what a test has left");
}

fn state_directories(directory: &Path, depth: usize) -> Vec<PathBuf> {
    if directory.join("reapers").is_dir() {
        return vec![directory.to_owned()];
    }
    if depth == 0 {
        return Vec::new();
    }
    // An unreadable directory belongs to no daemon of ours.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.flat_map(|entry| state_directories(&entry.path(), depth - 1)).collect()
}

/// Ends daemon and shims first, since they start others. Goes on after an error, and returns all
/// errors.
async fn end(state: &Path) -> Vec<io::Error> {
    let mut failed = vec![end_daemon(state).await];
    for (_, place) in JobDir::all(state).unwrap_or_default() {
        failed.push(end_shim(&place).await);
    }
    match job_scopes_of(state) {
        Ok(job_scopes) => {
            for (_, job_scope) in job_scopes {
                failed.push(end_job(&job_scope).await);
            }
        }
        Err(error) => failed.push(Err(error)),
    }
    cgroups_of(state).unwrap_or_default().iter().for_each(|base| remove_cgroups(base));
    failed.into_iter().filter_map(Result::err).collect()
}

async fn end_daemon(state: &Path) -> io::Result<()> {
    match daemon_of(state)? {
        Some(daemon) => kill(&daemon).await,
        None => Ok(()),
    }
}

async fn end_shim(place: &JobDir) -> io::Result<()> {
    if !is_locked(&place.directory().join("lock"))? {
        return Ok(());
    }
    match place.about()? {
        Some(about) => kill(&about.shim).await,
        // Without its daemon it gets no commands, and exits.
        None => Ok(()),
    }
}

async fn end_job(job_scope: &JobScope) -> io::Result<()> {
    for process in inhabitants(job_scope)? {
        kill(&process).await?;
    }
    clear(job_scope, Duration::ZERO).await.map(drop)
}

/// The process that holds the directory's lock. The test process itself does not count.
fn daemon_of(state: &Path) -> io::Result<Option<ProcessKey>> {
    let Some(holder) = StateLock::holder(state).map_err(io::Error::other)? else { return Ok(None) };
    let (Some(pid), Some(start_time), Some(boot_id)) = (holder.pid, holder.start_time, holder.boot_id) else {
        return Err(io::Error::other("its lock is held, and nobody says by whom"));
    };
    Ok((pid != std::process::id()).then_some(ProcessKey { pid, start_time, boot_id }))
}

async fn kill(identity: &ProcessKey) -> io::Result<()> {
    let Some(process) = ProcessHandle::open(identity)? else { return Ok(()) };
    process.signal(Signal::KILL)?;
    let gone = tokio::time::timeout(GONE_WITHIN, process.ended()).await;
    gone.unwrap_or_else(|_| {
        Err(io::Error::other(format!("process {} was killed and is still there", identity.pid)))
    })
}

/// Removes cgroups bottom-up. A cgroup with a live process stays; another error reports that
/// process.
fn remove_cgroups(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
