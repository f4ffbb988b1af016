//! Turns a message on `exec.<peer>` into a request that may become a job, or a refusal.
//!
//! The order of the checks is part of the protocol. This module checks the reply subject, the size and the shape.
//! The job checks the id, the limits and the journal.

use super::answer;
use super::auth::{self, Signed};
use super::context::Context;
use super::queue::Ticket;
use super::request_summary;
use peerbus_bus::Incoming;
use peerbus_protocol::ending::{Refusal, sentence};
use peerbus_protocol::exec::{ExecRequest, JobResult};
use peerbus_protocol::identity::Principal;
use peerbus_protocol::signature::SIGNATURE;
use peerbus_protocol::{Ending, JobId, subjects};

/// A well-formed request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) id: JobId,
    pub(super) exec: ExecRequest,
    /// The caller's inbox.
    pub(super) caller: String,
    /// The caller's identity.
    pub(super) principal: Principal,
    /// What the caller signed. `None` if members do not sign.
    pub(super) signed: Option<Signed>,
    /// Distinguishes a repeat from another request with the same id.
    pub(super) digest: String,
    /// The delivery of a queued request. No client waits for its answer.
    pub(super) queued: Option<Ticket>,
}

impl Request {
    /// Whether a client follows it from the start. Readers of a durable job attach once it runs.
    pub(super) fn is_waited_for(&self) -> bool {
        self.queued.is_none() && !self.exec.is_durable()
    }
}

/// The result of decoding a message.
pub(super) enum Decoded {
    /// A request that may become a job.
    Request(Box<Request>),
    /// An invalid request. The sender gets an answer, which may have to wait for the bus.
    Malformed(Malformed),
    /// A message that cannot be answered.
    Nothing,
}

/// An unreadable or unauthenticated request, and why. Small however large the request was, because many may wait.
pub(super) struct Malformed {
    caller: String,
    id: Option<JobId>,
    streamed: bool,
    why: Refusal,
    sentence: String,
    /// The signature of the request.
    signature: String,
}

/// Decodes a request. Does not block.
pub(super) fn receive(context: &Context, message: Incoming) -> Decoded {
    context.count(|counts| counts.requests += 1);
    let caller = match &message.reply {
        Some(reply) if subjects::is_inbox(reply) => reply.clone(),
        other => {
            let reply = other.clone().unwrap_or_else(|| "none".to_owned());
            let reply = request_summary::name(&reply);
            tracing::warn!(
                reply,
                "refused a request: its reply subject is no inbox, so nobody could be answered"
            );
            refused(context, None, "reply subject is no inbox");
            return Decoded::Nothing;
        }
    };
    // Authentication comes before any further check.
    let read = match ExecRequest::decode(&message.payload) {
        // The signature covers the subject, so the subject must be ours: a server may deliver anything.
        _ if message.subject != subjects::exec(context.peer()) => {
            Err((Refusal::BadRequest, format!("it was said to {}", request_summary::name(&message.subject))))
        }
        Ok(exec) if exec.expires_ms.is_some() => {
            Err((Refusal::BadRequest, "field `expires_ms`: only a request in the queue has it".to_owned()))
        }
        read => read.map_err(|bad| (Refusal::BadRequest, bad.0)),
    };
    let proved = read.and_then(|exec| match auth::of(context, &message) {
        // Without an id each copy of the message would be another job.
        Ok((_, Some(_))) if exec.id.is_none() => {
            Err((Refusal::BadRequest, "field `id`: a signed request has one".to_owned()))
        }
        Ok((principal, signed)) => Ok((exec, principal, signed)),
        Err(why) => Err((Refusal::Unproven, why)),
    });
    match proved {
        Ok((exec, principal, signed)) => Decoded::Request(Box::new(Request {
            // Without an id there is no protection against repeats.
            id: exec.id.unwrap_or_default(),
            digest: digest(&message.payload, &principal),
            exec,
            caller,
            principal,
            signed,
            queued: None,
        })),
        Err((why, said)) => Decoded::Malformed(malformed(context, &message, caller, why, said)),
    }
}

/// The digest that identifies a request: the same content from another principal differs.
pub(super) fn digest(payload: &[u8], principal: &Principal) -> String {
    let mut hasher = blake3::Hasher::new();
    if let Principal::Known { name, .. } = principal {
        hasher.update(name.as_str().as_bytes()).update(b"\n");
    }
    hasher.update(payload).finalize().to_hex().to_string()
}

fn malformed(context: &Context, message: &Incoming, caller: String, why: Refusal, said: String) -> Malformed {
    let said = sentence(said);
    tracing::warn!(
        caller = request_summary::name(&caller),
        ending = format!("refused: {said}"),
        "refused a request"
    );
    refused(context, Some(&caller), &said);
    let wish = serde_json::from_slice::<serde_json::Value>(&message.payload).unwrap_or_default();
    Malformed {
        caller,
        id: wish.get("id").and_then(|id| id.as_str()?.parse().ok()),
        streamed: wish.get("stream").is_some_and(serde_json::Value::is_object),
        why,
        sentence: said,
        signature: message.headers.get(SIGNATURE).unwrap_or_default().to_owned(),
    }
}

fn refused(context: &Context, caller: Option<&str>, why: &str) {
    context.audit.malformed(caller, why);
    context.count(|counts| {
        counts.errors += 1;
        why.clone_into(&mut counts.last_error);
    });
}

/// Answers an invalid request, as a stream if it asked for one.
pub(super) async fn answer_malformed(context: &Context, malformed: Malformed) {
    let Malformed { caller, id, streamed, why, sentence, signature } = malformed;
    let ending = Ending::Refused { why, message: sentence };
    let result = JobResult::bare(id, context.peer().clone(), context.instance, ending);
    if streamed {
        answer::refused_stream(context, &caller, id, &result, &signature).await;
    } else {
        answer::plain(context, &caller, &result, None).await;
    }
}
