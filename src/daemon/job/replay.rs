//! Answers messages about an ended job from the journal. Starts nothing and keeps no state.

use std::sync::Arc;

use super::reply;
use crate::answer;
use crate::auth::{is_anothers, members_sign};
use crate::context::Context;
use crate::dispatcher::Message;
use crate::journal::Record;
use crate::policy;
use crate::request::Request;
use crate::request_summary::RequestSummary;
use peerbus_protocol::control::{Cancelled, Control};
use peerbus_protocol::ending::Refusal;
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::{Ending, JobId};

/// Answers one message about a recorded job.
pub(super) async fn answer(context: &Arc<Context>, record: &Record, message: Message) {
    let id = record.begun.id;
    let result = ending_of(context, record);
    match message {
        Message::Request(request) => repeat(context, record, &request, &result).await,
        Message::Word { steer, from, principal, .. } => {
            // Only the recorded instance, or its successor on the same state directory, answers.
            let meant_for = steer.instance();
            if meant_for.is_some_and(|it| it != record.begun.instance && it != context.instance) {
                return;
            }
            let is_credit = matches!(steer, Control::Credit(_));
            if is_credit && from != record.begun.caller && members_sign(context) {
                return;
            }
            // The journal identifies the caller by its inbox alone. Output belongs to the caller.
            let others = is_anothers(context, &from, &record.begun.caller);
            let wants_output = !matches!(steer, Control::Cancel(_));
            if (others && wants_output)
                || (from != record.begun.caller && !policy::may_steer(&principal, None))
            {
                return answer::not_yours(
                    context,
                    (id, Some(&record.begun.owner())),
                    &steer,
                    (&from, &principal),
                )
                .await;
            }
            word(context, id, &result, steer, &from).await;
        }
        Message::CallerGone(_) => {}
    }
}

/// The recorded ending. A record without one belongs to a daemon that died.
fn ending_of(context: &Context, record: &Record) -> JobResult {
    record.result.clone().unwrap_or_else(|| {
        let ending = Ending::Unknown { why: "its daemon died before it could write down the end".to_owned() };
        JobResult::bare(Some(record.begun.id), context.peer().clone(), record.begun.instance, ending)
    })
}

async fn repeat(context: &Arc<Context>, record: &Record, request: &Request, result: &JobResult) {
    let tombstone = record.begun.request.is_empty();
    if !tombstone && record.begun.request != request.digest {
        let message =
            format!("the id {} belongs to another request, which ended: {}", request.id, result.ending);
        let ending = Ending::Refused { why: Refusal::NotYours, message };
        RequestSummary::by(context, request).refused(&context.audit, &ending).await;
        let refusal = JobResult::bare(Some(request.id), context.peer().clone(), context.instance, ending);
        return reply(context, request, &refusal).await;
    }
    if tombstone {
        // Only this request tells what would have run. The client that cancelled it does not ask again.
        RequestSummary::by(context, request).refused(&context.audit, &result.ending).await;
    }
    match request.exec.stream {
        _ if request.queued.is_some() => reply(context, request, result).await,
        Some(_) => reply(context, request, result).await,
        None => answer::plain(context, &request.caller, result, kept(context, request.id).await).await,
    }
}

async fn word(context: &Arc<Context>, id: JobId, result: &JobResult, steer: Control, from: &str) {
    match steer {
        Control::Resume(resume) => answer::whole_stream(context, from, Some(id), result, resume.epoch).await,
        Control::Cancel(_) if is_tombstone(result) => {
            answer::cancelled(context, from, id, Cancelled::NeverSeen, None).await;
        }
        Control::Cancel(_) => {
            answer::cancelled(context, from, id, Cancelled::Ended, Some(result.clone())).await
        }
        Control::Result => answer::plain(context, from, result, kept(context, id).await).await,
        // Whoever has the ending needs nothing more.
        Control::Credit(credit) if !credit.done => {
            answer::have_resumed(context, from, id, credit.epoch).await;
        }
        Control::Attach(_) | Control::Rename(_) | Control::Detach(_) => {
            answer::not_durable(context, from, id).await;
        }
        Control::Credit(_)
        | Control::Stdin { .. }
        | Control::Signal(_)
        | Control::Resize(_)
        | Control::Release(_) => {}
    }
}

fn is_tombstone(result: &JobResult) -> bool {
    matches!(result.ending, Ending::Refused { why: Refusal::CancelledBefore, .. })
}

async fn kept(context: &Arc<Context>, id: JobId) -> Option<Vec<u8>> {
    let journal = context.journal.clone();
    super::blocking(move || Ok(journal.kept_result(id))).await.unwrap_or_default()
}
