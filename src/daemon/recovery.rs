//! What a dead daemon left behind: its jobs are stopped to the last process and ended as unknown,
//! before the next one serves.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;

use super::asked::Asked;
use super::audit::{Audit, Place, SIZE};
use super::journal::{Entry, Journal, Record};
use crate::process::{self, StateLock};
use crate::protocol::ending::StartFailure;
use crate::protocol::exec::JobResult;
use crate::protocol::{Ending, PeerId};

/// How long what is left of a dead daemon's job gets to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Ends every job that the dead daemon of a state directory left open, without starting another.
///
/// # Errors
/// When the directory is held by a daemon, or its journal cannot be read.
pub async fn recover_after(state_dir: &Path, peer: &PeerId) -> anyhow::Result<()> {
    let _lock = StateLock::acquire(state_dir)?;
    let place = Place { state_dir: state_dir.to_owned(), peer: peer.clone(), size: SIZE, instance: None };
    let audit = Audit::open(place, false);
    let recovered = recover(&Journal::open(state_dir)?, &audit, peer).await;
    audit.close().await;
    recovered
}

/// Ends every job that a dead daemon left open.
///
/// # Errors
/// When the journal cannot be read: then nobody can say what may still run.
pub(super) async fn recover(journal: &Journal, audit: &Audit, peer: &PeerId) -> anyhow::Result<()> {
    let left = journal.left_open().context("reading the journal")?;
    join_all(left.into_iter().map(|(entry, record)| end(journal, audit, peer, entry, record))).await;
    Ok(())
}

async fn end(journal: &Journal, audit: &Audit, peer: &PeerId, entry: Entry, record: Record) {
    let id = record.begun.id;
    let never_started = record.begun.queued && !record.starting && record.result.is_none();
    if never_started && journal.has_copy(id) {
        // Forgotten here, it is begun again from its copy, as if it were delivered now.
        match entry.withdraw() {
            Ok(()) => {
                tracing::info!(job = %id, "a dead daemon had taken this job from the queue and not started it")
            }
            Err(error) => tracing::error!(job = %id, %error, "forgetting a queued job that has not started"),
        }
        return;
    }
    let killed = match &record.begun.lodging {
        Some(lodging) => process::clear(lodging, GRACE).await.unwrap_or_else(|error| {
            tracing::error!(job = %id, %error, "stopping what a dead daemon left of a job");
            0
        }),
        None => 0,
    };
    let result = record.result.unwrap_or_else(|| {
        if never_started {
            let message = "its daemon died before it was started; nothing ran".to_owned();
            let ending = Ending::NotStarted { why: StartFailure::System, message };
            return JobResult::bare(Some(id), peer.clone(), record.begun.instance, ending);
        }
        let why = match &record.process {
            Some(process) => format!("its daemon died while it ran as process {}", process.pid),
            None => "its daemon died before its start was written down; it may have run".to_owned(),
        };
        let ending = Ending::Unknown { why };
        JobResult { killed, ..JobResult::bare(Some(id), peer.clone(), record.begun.instance, ending) }
    });
    let found = JobResult { killed, ..result.clone() };
    Asked::recorded(&record.begun).found_dead(audit, &found).await;
    if let Err(error) = entry.ended_for_another(&result) {
        tracing::error!(job = %id, %error, "writing the end of a dead daemon's job");
    }
}
