//! Cleans up after an earlier daemon before this one serves. Stops all processes of its plain jobs and ends those
//! jobs as unknown. Durable jobs continue: recovery finds their shims.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;

use super::audit::{self, Audit, SIZE};
use super::context::DaemonSettings;
use super::durable::{self, Known, Left};
use super::journal::{Entry, Journal, Record};
use super::request_summary::RequestSummary;
use peerbus_process::{self as process, StateLock};
use peerbus_protocol::ending::StartFailure;
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::{Ending, JobId, PeerId};
use peerbus_shim::JobDir;

/// Time for leftover processes to exit by themselves.
const GRACE: Duration = Duration::from_secs(5);

/// How long a daemon waits for the shims of durable jobs before it serves.
const SHIM_ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// Ends every plain job that a dead daemon left open, without starting a new daemon.
///
/// # Errors
/// If a daemon holds the directory, or its journal cannot be read.
pub async fn recover_after(state_dir: &Path, peer: &PeerId) -> anyhow::Result<()> {
    let _lock = StateLock::acquire(state_dir)?;
    let place =
        audit::Place { state_dir: state_dir.to_owned(), peer: peer.clone(), size: SIZE, instance: None };
    let audit = Audit::open(place, false);
    // The next daemon continues durable jobs.
    let (_, left) = apart(begun(&Journal::open(state_dir)?)?);
    end_all(&audit, peer, left).await;
    audit.close().await;
    Ok(())
}

/// Ends every plain job that a dead daemon left open. Returns the durable ones with the state of their shims.
///
/// # Errors
/// If the journal cannot be read: then leftover processes are unknown.
pub(super) async fn recover(
    journal: &Journal,
    audit: &Audit,
    settings: &DaemonSettings,
) -> anyhow::Result<Vec<Left>> {
    let (durable, left) = apart(begun(journal)?);
    let end = end_all(audit, &settings.peer, left);
    let find = join_all(
        durable.into_iter().map(|(entry, record)| find(journal, &settings.state_dir, entry, record)),
    );
    let (_, found) = tokio::join!(end, find);
    let mut found: Vec<Left> = found.into_iter().flatten().collect();
    if !found.is_empty() {
        let told = told(audit).await;
        found.iter_mut().for_each(|left| left.told = told.contains(&left.record.begun.id));
    }
    Ok(found)
}

/// The jobs whose ending the audit log has but the journal may lack.
async fn told(audit: &Audit) -> HashSet<JobId> {
    audit.ended_lately().await.unwrap_or_else(|error| {
        tracing::error!(%error, "reading the audit log");
        HashSet::new()
    })
}

type Open = (Entry, Record);

/// The open records, except queued jobs that have not started. Those are withdrawn and begin again from their
/// copies.
fn begun(journal: &Journal) -> anyhow::Result<Vec<Open>> {
    let left = journal.left_open().context("reading the journal")?;
    let (waits, left): (Vec<Open>, Vec<Open>) = left
        .into_iter()
        .partition(|(_, record)| has_never_started(record) && journal.has_copy(record.begun.id));
    for (entry, record) in waits {
        forget(entry, record.begun.id);
    }
    Ok(left)
}

fn forget(entry: Entry, id: JobId) {
    match entry.withdraw() {
        Ok(()) => tracing::info!(job = %id, "a dead daemon had taken this from the queue and not started it"),
        Err(error) => tracing::error!(job = %id, %error, "forgetting a queued job that has not started"),
    }
}

/// Whether a queued job has certainly not started: it would have recorded `starting`.
fn has_never_started(record: &Record) -> bool {
    record.begun.queued && !record.starting && record.result.is_none()
}

/// Separates durable jobs from all others.
fn apart(left: Vec<Open>) -> (Vec<Open>, Vec<Open>) {
    left.into_iter().partition(|(_, record)| record.begun.durable && record.result.is_none())
}

/// Finds the shim of a durable job. If it does not answer in time, the job itself keeps looking.
async fn find(journal: &Journal, state_dir: &Path, entry: Entry, record: Record) -> Option<Left> {
    let id = record.begun.id;
    let entry = entry
        .continued()
        .inspect_err(|error| tracing::error!(job = %id, %error, "reading the journal"))
        .ok()?;
    let place = JobDir::of(state_dir, id);
    let known =
        tokio::time::timeout(SHIM_ANSWERS_WITHIN, durable::look(&place, record.begun.job_scope.as_ref()))
            .await
            .ok();
    let was_started = record.process.is_some();
    if matches!(known, Some(Known::NeverStarted)) && !was_started && journal.has_copy(id) {
        forget(entry, id);
        return None;
    }
    Some(Left { entry, record, known, told: false })
}

async fn end_all(audit: &Audit, peer: &PeerId, left: Vec<Open>) {
    let (over, left): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, record)| record.result.is_some());
    if !over.is_empty() {
        let told = told(audit).await;
        for (entry, record) in over {
            close(audit, entry, record, &told).await;
        }
    }
    join_all(left.into_iter().map(|(entry, record)| end(audit, peer, entry, record))).await;
}

/// Closes a record whose daemon wrote the ending and then died. Processes that still run were left on purpose.
async fn close(audit: &Audit, entry: Entry, record: Record, told: &HashSet<JobId>) {
    let id = record.begun.id;
    if let Some(result) = record.result.filter(|_| !told.contains(&id)) {
        RequestSummary::recorded(&record.begun).ended(audit, &result).await;
    }
    if let Err(error) = entry.closed_for_another() {
        tracing::error!(job = %id, %error, "closing the record of a job that a dead daemon has ended");
    }
}

async fn end(audit: &Audit, peer: &PeerId, entry: Entry, record: Record) {
    let id = record.begun.id;
    let cleared = match &record.begun.job_scope {
        Some(job_scope) => process::clear(job_scope, GRACE).await,
        None => Ok(0),
    };
    let (killed, left_running) = match cleared {
        Ok(killed) => (killed, 0),
        Err(error) => {
            tracing::error!(job = %id, %error, "stopping what a dead daemon left of a job");
            (0, 1)
        }
    };
    let ending = if has_never_started(&record) {
        let message = "its daemon died before it was started; nothing ran".to_owned();
        Ending::NotStarted { why: StartFailure::System, message }
    } else {
        let why = match &record.process {
            Some(process) => format!("its daemon died while it ran as process {}", process.pid),
            None => "its daemon died before its start was written down; it may have run".to_owned(),
        };
        Ending::Unknown { why }
    };
    let bare = JobResult::bare(Some(id), peer.clone(), record.begun.instance, ending);
    let result = JobResult { killed, left_running, ..bare };
    RequestSummary::recorded(&record.begun).found_dead(audit, &result).await;
    if let Err(error) = entry.ended_for_another(&result) {
        tracing::error!(job = %id, %error, "writing the end of a dead daemon's job");
    }
}
