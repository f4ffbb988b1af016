//! From a message on `exec.<peer>` to a request that may become a job, or a refusal.
//!
//! The order of the checks is part of the protocol: the reply subject, size and shape come here;
//! whether the id is known, the limits and the journal come with the job itself.

use super::answer;
use super::asked;
use super::context::Context;
use crate::bus::Incoming;
use crate::protocol::ending::{Refusal, sentence};
use crate::protocol::exec::{ExecRequest, JobResult};
use crate::protocol::identity::Asker;
use crate::protocol::{BadMessage, Ending, JobId, subjects};

/// A well-formed request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) id: JobId,
    pub(super) exec: ExecRequest,
    /// The caller's inbox.
    pub(super) caller: String,
    /// Who the caller is.
    pub(super) asker: Asker,
    /// Tells a repeat from another request under the same id.
    pub(super) digest: String,
}

/// What became of a message.
pub(super) enum Received {
    /// It may become a job.
    Request(Box<Request>),
    /// Its sender is to be told what is wrong with it, which may have to wait for the bus.
    Malformed(Malformed),
    /// Nobody can be told.
    Nothing,
}

/// A request that cannot be read, and why. Small, however large the request was: many may wait.
pub(super) struct Malformed {
    caller: String,
    id: Option<JobId>,
    streamed: bool,
    bad: BadMessage,
}

/// Reads a request. Waits for nothing.
pub(super) fn receive(context: &Context, message: Incoming) -> Received {
    context.count(|counts| counts.requests += 1);
    let caller = match message.reply {
        Some(reply) if subjects::is_inbox(&reply) => reply,
        other => {
            let reply = other.unwrap_or_else(|| "none".to_owned());
            let reply = asked::name(&reply);
            tracing::warn!(
                reply,
                "refused a request: its reply subject is no inbox, so nobody could be answered"
            );
            refused(context, None, "reply subject is no inbox");
            return Received::Nothing;
        }
    };
    match ExecRequest::decode(&message.payload) {
        Ok(exec) => Received::Request(Box::new(Request {
            // Without an id nothing is promised about repeats.
            id: exec.id.unwrap_or_default(),
            digest: blake3::hash(&message.payload).to_hex().to_string(),
            exec,
            caller,
            asker: Asker::Anyone,
        })),
        Err(bad) => {
            let bad = BadMessage(sentence(bad.0));
            tracing::warn!(
                caller = asked::name(&caller),
                ending = format!("refused: {bad}"),
                "refused a request"
            );
            refused(context, Some(&caller), &bad.0);
            let wish = serde_json::from_slice::<serde_json::Value>(&message.payload).unwrap_or_default();
            Received::Malformed(Malformed {
                caller,
                id: wish.get("id").and_then(|id| id.as_str()?.parse().ok()),
                streamed: wish.get("stream").is_some_and(serde_json::Value::is_object),
                bad,
            })
        }
    }
}

fn refused(context: &Context, caller: Option<&str>, why: &str) {
    context.audit.malformed(caller, why);
    context.count(|counts| {
        counts.errors += 1;
        why.clone_into(&mut counts.last_error);
    });
}

/// Says what is wrong, as a stream where a stream was asked for.
pub(super) async fn answer_malformed(context: &Context, malformed: Malformed) {
    let Malformed { caller, id, streamed, bad } = malformed;
    let ending = Ending::Refused { why: Refusal::BadRequest, message: bad.0 };
    let result = JobResult::bare(id, context.peer().clone(), context.instance, ending);
    if streamed {
        answer::whole_stream(context, &caller, id, &result, 1).await;
    } else {
        answer::plain(context, &caller, &result, None).await;
    }
}
