//! What a daemon has left running that nobody will ever end, as far as that can be proved.
//!
//! | what | why it is ours | why nobody will end it |
//! |---|---|---|
//! | a job of a daemon that died | its job_scope is in our journal, or named after our state directory | no daemon holds that directory |
//! | what a durable job has left whose shim died | the same | no daemon holds that directory, and no shim the job |
//! | what an ended job has left, though nothing was left on purpose | the same | its record is closed |
//! | a shim that does not answer | it holds a lock in our state directory | nobody can talk to it |
//! | a shim whose job is over or was never taken in | it holds a lock in our state directory | no open record leads to it |
//!
//! Guarantees: a name proves nothing; no process is looked for by its name or arguments, and none is signalled
//! but by its number, start time and boot, or as a member of such a job_scope. What a job was allowed to leave
//! running is no orphan, nor is a durable job with a shim: it goes on without a daemon, and the next one finds
//! it. What is ours and cannot be proved to be forgotten is told of, and left alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use serde::Deserialize;

use super::journal::{Journal, Record, StartRecord};
use super::recovery::recover_after;
use super::state;
use peerbus_process::{self as process, JobScope, ProcessHandle, ProcessKey, Signal, StateLock};
use peerbus_protocol::JobId;
use peerbus_protocol::decode;
use peerbus_shim::{JobDir, link};

/// How long processes may take to end by themselves.
const GRACE: Duration = Duration::from_secs(5);

/// How long a shim that does not answer is waited for.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// How long a shim that was killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A job of a daemon that died.
    Job,
    /// What an ended job has left.
    Rest,
    /// A shim.
    Shim,
    /// Ours, and perhaps left on purpose.
    Unproved,
}

/// Something that was left running.
#[derive(Debug, Clone)]
pub struct Orphan {
    /// Whose it is.
    pub job: JobId,
    /// What it is.
    pub kind: Kind,
    /// Why it is one.
    pub why: String,
    /// What the job was to run, shortened, where that is known.
    pub command: Option<String>,
    /// The processes that were seen.
    pub processes: Vec<ProcessKey>,
    job_scope: Option<JobScope>,
    shim: Option<ProcessKey>,
}

/// What a shim writes of itself, as far as it concerns us.
#[derive(Debug, Deserialize)]
struct ShimSummary {
    shim: ProcessKey,
    job_scope: JobScope,
}

/// Looks for them. Changes nothing. Takes 10 s where a shim does not answer.
///
/// # Errors
/// When something cannot be looked at, so that nobody could say what is whose.
pub async fn find(state_dir: &Path) -> anyhow::Result<Vec<Orphan>> {
    if !state_dir.join("journal").is_dir() {
        return Ok(Vec::new());
    }
    // Before the records: one is made before its job_scope is, and closed after that is empty.
    let job_scopes = process::job_scopes_of(state_dir)?;
    let has_daemon = StateLock::holder(state_dir)?.is_some();
    let journal = Journal::open(state_dir)?;
    let mut orphans = Vec::new();
    for shim in shims(state_dir)? {
        orphans.extend(of_shim(&journal, shim)?);
    }
    orphans.extend(silent(&journal, state_dir).await?);
    if !has_daemon {
        for entry in fs::read_dir(state_dir.join("journal/open"))? {
            let job = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            // One that cannot be read is for the next daemon to put aside.
            let Some(Ok(Some(record))) = job.map(|job| journal.find(job)) else { continue };
            let orphan = match record.begun.durable {
                true => left_by_its_shim(state_dir, record)?,
                false => Some(left_open(record)?),
            };
            // Where nothing runs any more the next daemon has no more to do than to write that down.
            orphans.extend(orphan.filter(|orphan| !orphan.processes.is_empty()));
        }
    }
    for (job, job_scope) in job_scopes {
        if !orphans.iter().any(|orphan| orphan.job == job) {
            orphans.extend(of_job_scope(&journal, job, job_scope, has_daemon)?);
        }
    }
    orphans.sort_by_key(|orphan| orphan.job);
    Ok(orphans)
}

fn left_open(Record { begun, .. }: Record) -> io::Result<Orphan> {
    let processes = begun.job_scope.as_ref().map_or(Ok(Vec::new()), process::inhabitants)?;
    let why = "its daemon died, and none has come after it".to_owned();
    let StartRecord { id: job, command, job_scope, .. } = begun;
    Ok(Orphan { job, kind: Kind::Job, why, command: Some(command), processes, job_scope, shim: None })
}

/// A durable job is looked after by its shim, whether there is a daemon or not. One whose shim died runs on,
/// its output read by nobody; how it ended, the next daemon writes down.
fn left_by_its_shim(state_dir: &Path, record: Record) -> io::Result<Option<Orphan>> {
    let place = state_dir.join("jobs").join(record.begun.id.to_string());
    if process::is_locked(&place.join("lock"))? || place.join("ended.json").exists() {
        return Ok(None);
    }
    let why = "its shim died, and no daemon runs that would see to it".to_owned();
    Ok(Some(Orphan { kind: Kind::Rest, why, ..left_open(record)? }))
}

fn of_job_scope(
    journal: &Journal,
    job: JobId,
    job_scope: JobScope,
    has_daemon: bool,
) -> io::Result<Option<Orphan>> {
    let processes = process::inhabitants(&job_scope)?;
    if processes.is_empty() {
        return Ok(None);
    }
    let (kind, why, command) = match journal.find(job)? {
        Some(Record { begun, result: Some(result), .. }) if result.left_running == 0 => {
            (Kind::Rest, "its job has ended, and was to leave nothing", Some(begun.command))
        }
        Some(Record { result: Some(_), .. }) => return Ok(None),
        // The daemon that runs sees to it, or the first case above has it already.
        Some(_) => return Ok(None),
        None if has_daemon => (Kind::Unproved, "its job is not in the journal (any more)", None),
        None => (Kind::Unproved, "its job is not in the journal (any more), and no daemon runs", None),
    };
    let job_scope = Some(job_scope);
    Ok(Some(Orphan { job, kind, why: why.to_owned(), command, processes, job_scope, shim: None }))
}

/// The shims that live, by the locks they hold.
fn shims(state_dir: &Path) -> io::Result<Vec<(JobId, PathBuf)>> {
    let entries = match fs::read_dir(state_dir.join("jobs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut held = Vec::new();
    for entry in entries {
        let entry = entry?;
        let job = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(job) = job
            && process::is_locked(&entry.path().join("lock"))?
        {
            held.push((job, entry.path()));
        }
    }
    Ok(held)
}

fn of_shim(journal: &Journal, (job, place): (JobId, PathBuf)) -> anyhow::Result<Option<Orphan>> {
    let (why, command) = match journal.find(job)? {
        Some(Record { result: None, .. }) => return Ok(None),
        // It goes by itself once it has written that.
        Some(Record { begun, .. }) if !place.join("ended.json").exists() => {
            ("its job is over in the journal, and it goes on", Some(begun.command))
        }
        Some(_) => return Ok(None),
        None => ("it keeps a job that is not in the journal, so no daemon will find it", None),
    };
    who_holds(job, &place, why, command).map(Some)
}

/// The shims of jobs that go on which do not answer.
async fn silent(journal: &Journal, state_dir: &Path) -> anyhow::Result<Vec<Orphan>> {
    let shims = shims(state_dir)?.into_iter().map(|(job, directory)| async move {
        let reacts = link::reacts(&JobDir::of(state_dir, job), ANSWERS_WITHIN).await;
        (job, directory, reacts)
    });
    let mut silent = Vec::new();
    for (job, directory, reacts) in join_all(shims).await {
        // What has ended meanwhile has taken its directory's lock with it.
        if reacts.unwrap_or(true) || !process::is_locked(&directory.join("lock"))? {
            continue;
        }
        let Some(Record { begun, result: None, .. }) = journal.find(job)? else { continue };
        let why = format!("its shim has not answered for {} s", ANSWERS_WITHIN.as_secs());
        silent.push(who_holds(job, &directory, &why, Some(begun.command))?);
    }
    Ok(silent)
}

/// Stops the shims that do not answer, with their jobs; says of each how many processes were stopped, or why not.
///
/// # Errors
/// When it cannot be looked at which there are.
pub async fn stop_silent(state_dir: &Path) -> anyhow::Result<Vec<(Orphan, Result<u32, String>)>> {
    if !state_dir.join("journal").is_dir() {
        return Ok(Vec::new());
    }
    let found = silent(&Journal::open(state_dir)?, state_dir).await?;
    let stopped = stop(state_dir, &found).await?;
    Ok(found.into_iter().zip(stopped).collect())
}

/// The shim that holds the lock of a job, as far as that can be proved.
fn who_holds(job: JobId, place: &Path, why: &str, command: Option<String>) -> anyhow::Result<Orphan> {
    let unproved = |why: &str| Orphan {
        job,
        kind: Kind::Unproved,
        why: why.to_owned(),
        command: command.clone(),
        processes: Vec::new(),
        job_scope: None,
        shim: None,
    };
    let about = match fs::read(place.join("shim.json")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(unproved("a lock of a job is held, and nobody has said who holds it"));
        }
        text => decode::json::<ShimSummary>(&text?),
    };
    let Ok(ShimSummary { shim, job_scope }) = about else {
        return Ok(unproved("a lock of a job is held, and who holds it cannot be read"));
    };
    if !shim.is_alive()? {
        return Ok(unproved("a lock of a job is held by another process than its shim"));
    }
    let mut processes = vec![shim.clone()];
    processes.extend(process::inhabitants(&job_scope)?.into_iter().filter(|member| *member != shim));
    let (job_scope, shim) = (Some(job_scope), Some(shim));
    Ok(Orphan { job, kind: Kind::Shim, why: why.to_owned(), command, processes, job_scope, shim })
}

/// Stops those that are proved to be forgotten; says of each how many processes were stopped, or why not.
///
/// # Errors
/// When the jobs of a dead daemon cannot be ended as its successor would.
pub async fn stop(state_dir: &Path, orphans: &[Orphan]) -> anyhow::Result<Vec<Result<u32, String>>> {
    if orphans.iter().any(|orphan| orphan.kind == Kind::Job) {
        // All of them at once, with their endings written down; refused when a daemon has come meanwhile.
        let peer = state::read(state_dir)?.peer_id;
        recover_after(state_dir, &peer).await?;
    }
    let mut stopped = Vec::new();
    for orphan in orphans {
        stopped.push(match orphan.kind {
            Kind::Job => Ok(u32::try_from(orphan.processes.len()).unwrap_or(u32::MAX)),
            Kind::Unproved => Err("left alone: that it is forgotten cannot be proved".to_owned()),
            Kind::Rest | Kind::Shim => stop_one(orphan).await.map_err(|error| error.to_string()),
        });
    }
    Ok(stopped)
}

async fn stop_one(orphan: &Orphan) -> io::Result<u32> {
    let mut stopped = 0;
    if let Some(shim) = &orphan.shim
        && let Some(process) = ProcessHandle::open(shim)?
    {
        process.signal(Signal::KILL)?;
        if tokio::time::timeout(GONE_WITHIN, process.ended()).await.is_err() {
            return Err(io::Error::other(format!("process {} was killed and is still there", shim.pid)));
        }
        stopped += 1;
    }
    if let Some(job_scope) = &orphan.job_scope {
        stopped += process::clear(job_scope, GRACE).await?;
    }
    Ok(stopped)
}
