//! One job on its peer.
//!
//! ```text
//!            ┌─ known, ended ──► replay: answers from the journal
//!  attend ───┤
//!            └─ not known ──► admission ──► Starting ──► Running ──► Exited ──► Over
//!                               │ refused                  │ cancel, timeout, caller gone:
//!                               ▼                          ▼ the daemon stops the whole process tree
//!                             tombstone: the id is known and never runs
//! ```
//! Each job is one task. The task owns all state of the job and waits only for events, so jobs run concurrently.
//!
//! Guarantees: the journal is written before each step. `result` follows all output. The daemon keeps output until
//! the caller has acknowledged it.

mod admission;
mod control;
mod ending;
mod lease;
mod output;
mod replay;
mod runner;
mod stdin;
pub(super) mod terminal_env;

pub(super) use admission::{Admitted, Commands};

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::answer;
use super::context::Context;
use super::dispatcher::Message;
use super::durable;
use super::journal::{Record, StartRecord, now};
use super::request::Request;
use super::request_summary::{ControlSummary, RequestSummary};
use peerbus_protocol::control::{Cancelled, Control};
use peerbus_protocol::ending::Refusal;
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::identity::Principal;
use peerbus_protocol::{Ending, JobId};

/// Handles all messages about one id, from the first one until the job needs no task any more. Messages left in
/// `messages` go to the next task of this id.
pub(super) async fn attend(
    context: Arc<Context>,
    id: JobId,
    first: Message,
    messages: &mut mpsc::Receiver<Message>,
) {
    let mut next = VecDeque::from([first]);
    while let Some(message) = next.pop_front().or_else(|| messages.try_recv().ok()) {
        match look_up(&context, id).await {
            Ok(Some(record)) if record.begun.durable && may_run(&record) => {
                durable::attend_again(Arc::clone(&context), record, message, messages).await;
            }
            Ok(Some(record)) => replay::answer(&context, &record, message).await,
            Ok(None) => match message {
                Message::Request(request) if request.queued.is_some() => {
                    next.extend(come_up(&context, *request, messages).await);
                }
                Message::Request(request) => {
                    let signed = request.signed.as_ref();
                    match signed.map_or(Ok(()), |signed| signed.is_fresh(&context, id)) {
                        Ok(()) => {
                            next.extend(admission::admit(Arc::clone(&context), *request, messages).await)
                        }
                        Err(challenge) => answer::challenged(&context, &request.caller, id, challenge).await,
                    }
                }
                Message::Word { steer, from, principal, .. } => {
                    unknown(&context, id, steer, &from, &principal).await
                }
                Message::CallerGone(_) => {}
            },
            Err(error) => cannot_look_up(&context, id, &error, message).await,
        }
    }
}

/// Starts a queued request, refuses it, or postpones it. Returns the messages about it that nobody has handled yet.
async fn come_up(
    context: &Arc<Context>,
    request: Request,
    messages: &mut mpsc::Receiver<Message>,
) -> Vec<Message> {
    let Some(ticket) = &request.queued else { return Vec::new() };
    match ticket.due(context, request.id).await {
        Some(Ok(())) => return admission::admit(Arc::clone(context), request, messages).await,
        Some(Err(ending)) => admission::refuse(context, &request, ending, messages).await,
        None => {}
    }
    Vec::new()
}

/// Whether the job may have an output log. A refused job has none.
fn may_run(record: &Record) -> bool {
    record.begun.job_scope.is_some()
}

async fn look_up(context: &Arc<Context>, id: JobId) -> std::io::Result<Option<Record>> {
    let journal = context.journal.clone();
    blocking(move || journal.find(id)).await
}

/// Runs blocking disk work on the blocking thread pool.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => Err(std::io::Error::other(panic)),
    }
}

/// Answers a control message about an unknown id.
async fn unknown(context: &Arc<Context>, id: JobId, steer: Control, from: &str, principal: &Principal) {
    match steer {
        Control::Cancel(cancel) if cancel.instance.is_none_or(|instance| instance == context.instance) => {
            let why = cancel.why.unwrap_or_else(|| "cancelled before its request arrived".to_owned());
            let buried = bury(context, id, from, &why).await;
            context.audit.steered(ControlSummary::Stop(&why).by(id, from, principal, None)).await;
            match buried {
                Ok(()) => answer::cancelled(context, from, id, Cancelled::NeverSeen, None).await,
                Err(error) => {
                    let sentence = format!("the journal cannot be written, so {id} may still run: {error}");
                    tracing::error!(job = %id, %error, "writing the journal");
                    answer::cannot(context, from, "journal", 500, &sentence).await;
                }
            }
        }
        Control::Result | Control::Attach(_) | Control::Rename(_) | Control::Detach(_) => {
            answer::cannot(context, from, "unknown_job", 404, &format!("no job {id} is known here")).await
        }
        // Addressed to another daemon, and nothing of that daemon is left here.
        _ => {}
    }
}

/// Writes a tombstone, so that a late request for this id is refused.
async fn bury(context: &Arc<Context>, id: JobId, from: &str, why: &str) -> std::io::Result<()> {
    let ending = Ending::Refused { why: Refusal::CancelledBefore, message: why.to_owned() };
    bury_as(context, id, from, ending).await
}

/// Writes a tombstone for an invalid message from the queue.
pub(super) async fn bury_refused(context: &Arc<Context>, id: JobId, from: &str, ending: Ending) {
    match bury_as(context, id, from, ending).await {
        // The id belongs to another job.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => tracing::error!(job = %id, %error, "writing the journal"),
        Ok(()) => {}
    }
}

async fn bury_as(context: &Arc<Context>, id: JobId, from: &str, ending: Ending) -> std::io::Result<()> {
    let result = JobResult::bare(Some(id), context.peer().clone(), context.instance, ending);
    let begun = StartRecord {
        id,
        instance: context.instance,
        caller: from.to_owned(),
        request: String::new(),
        from: None,
        principal: None,
        standing: None,
        at: now(),
        command: String::new(),
        directory: String::new(),
        user: None,
        job_scope: None,
        queued: false,
        durable: false,
        tty: false,
        name: None,
    };
    let journal = context.journal.clone();
    blocking(move || journal.bury(&begun, &result)).await
}

async fn cannot_look_up(context: &Arc<Context>, id: JobId, error: &std::io::Error, message: Message) {
    tracing::error!(job = %id, %error, "reading the journal");
    let sentence = format!("the journal cannot be read, so it is not known whether {id} has run: {error}");
    match message {
        Message::Request(request) => {
            let ending = Ending::Refused { why: Refusal::Journal, message: sentence };
            RequestSummary::by(context, &request).refused(&context.audit, &ending).await;
            let result = JobResult::bare(Some(id), context.peer().clone(), context.instance, ending);
            reply(context, &request, &result).await;
        }
        Message::Word { from, .. } => answer::cannot(context, &from, "journal", 500, &sentence).await,
        Message::CallerGone(_) => {}
    }
}

/// Sends an ending in the form the request asked for. For a queued request, also tells the server not to deliver it
/// again.
pub(super) async fn reply(context: &Arc<Context>, request: &Request, result: &JobResult) {
    if let Some(ticket) = &request.queued {
        return ticket.settle(context, request.id).await;
    }
    match request.exec.stream {
        Some(_) => answer::whole_stream(context, &request.caller, Some(request.id), result, 1).await,
        None => answer::plain(context, &request.caller, result, None).await,
    }
}
