//! Durable jobs of an earlier daemon: adopted at startup, or looked up on request.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::job::DurableJob;
use super::shim_handle::Known;
use crate::context::Context;
use crate::dispatcher::Message;
use crate::job::blocking;
use crate::journal::{Entry, Record};

/// An open journal record, and what is known of its shim. `None` if the shim was slow to answer.
pub(crate) struct Left {
    pub(crate) entry: Entry,
    pub(crate) record: Record,
    pub(crate) known: Option<Known>,
    /// Whether the audit log already has the ending.
    pub(crate) told: bool,
}

/// Continues a job that an earlier daemon left.
pub(crate) async fn resume_left(context: Arc<Context>, left: Left, messages: &mut mpsc::Receiver<Message>) {
    let Left { entry, record, known, told } = left;
    let mut job = DurableJob::of(&context, &record);
    job.seat = Some(context.seat_of_an_adopted());
    job.enrolled = Some(context.running_jobs.enter(job.id, 0));
    job.entry = Some(entry);
    job.told = told;
    match known {
        Some(Known::Alive(link)) => {
            if let (None, Some(process), Some(entry)) =
                (&record.process, &link.hello().process, &mut job.entry)
                && let Err(error) = entry.started(process)
            {
                tracing::error!(job = %job.id, %error, "writing the start to the journal");
            }
            tracing::info!(job = %job.id, command = job.asked.command(), "adopted a job of the daemon before");
            job.connect(*link).await;
        }
        Some(known) => job.conclude(known).await,
        None => job.seek_shim(),
    }
    job.live(messages).await;
}

/// Handles messages about a durable job that has no task. The job has usually ended.
pub(crate) async fn attend_again(
    context: Arc<Context>,
    record: Record,
    first: Message,
    messages: &mut mpsc::Receiver<Message>,
) {
    let mut job = DurableJob::of(&context, &record);
    match record.result {
        Some(result) => job.has_ended(result),
        None => {
            // The journal does not have its ending: writing it failed, or it is not known yet.
            let (journal, id) = (context.journal.clone(), job.id);
            job.entry = blocking(move || journal.take_up(id)).await.unwrap_or_else(|error| {
                tracing::error!(job = %id, %error, "reading the journal");
                None
            });
            // The audit log may have the ending even if the journal does not.
            job.told = context.audit.has_told(id).await;
            job.seek_shim();
        }
    }
    job.on_message(first).await;
    job.live(messages).await;
}
