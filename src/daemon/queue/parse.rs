//! Turns a delivery into a request, or rejects it.
//!
//! A message that is unreadable or not from a member is removed from the queue, because a redelivery would be no
//! better. The log and the audit log name it. If a member did queue it, the journal gets a tombstone, so that
//! clients that ask for the result get an answer.

use std::sync::Arc;

use super::delivery::{Ticket, drop_copy};
use crate::auth;
use crate::context::Context;
use crate::job;
use crate::journal::Delivered;
use crate::request::{self, Request};
use crate::request_summary::RequestSummary;
use peerbus_bus::Outgoing;
use peerbus_protocol::ending::{Refusal, sentence};
use peerbus_protocol::exec::ExecRequest;
use peerbus_protocol::identity::Principal;
use peerbus_protocol::queue::QueueLifetime;
use peerbus_protocol::{Ending, JobId, subjects};

/// A message that does not become a job.
pub(super) struct BadDelivery {
    id: Option<JobId>,
    caller: String,
    /// The request, if it is readable.
    request: Option<Box<Request>>,
    why: Refusal,
    sentence: String,
}

/// Parses a delivery. Does not block.
pub(super) fn request(context: &Context, delivered: &Delivered) -> Result<Box<Request>, Box<BadDelivery>> {
    context.count(|counts| counts.requests += 1);
    let message = &delivered.message;
    let mut bad = Box::new(BadDelivery {
        id: None,
        caller: caller(&Principal::Anyone),
        request: None,
        why: Refusal::BadRequest,
        sentence: String::new(),
    });
    let id = match subjects::parse_queue(&message.subject) {
        Ok((peer, id)) if peer == *context.peer() => id,
        Ok((peer, _)) => return Err(bad.because(format!("it was left for {peer}"))),
        Err(why) => return Err(bad.because(why)),
    };
    bad.id = Some(id);
    let exec = ExecRequest::decode(&message.payload);
    let span = exec.as_ref().map_err(Clone::clone).and_then(|exec| QueueLifetime::of(exec, id));
    let proved = auth::of_queued(context, message);
    let principal = proved.clone().unwrap_or(Principal::Anyone);
    bad.caller = caller(&principal);
    let request = exec.ok().map(|exec| {
        // The request is readable but its time is not; it is refused below.
        let span = span.clone().unwrap_or(QueueLifetime { made_ms: 0, expires_ms: 0 });
        Box::new(Request {
            id,
            digest: request::digest(&message.payload, &principal),
            exec,
            caller: caller(&principal),
            principal,
            signed: None,
            queued: Some(Ticket { span, delivered: delivered.clone() }),
        })
    });
    match (proved, span, request) {
        (Ok(_), Ok(_), Some(request)) => Ok(request),
        (Err(why), _, request) => {
            Err(Box::new(BadDelivery { request, why: Refusal::Unproven, ..*bad }).because(why))
        }
        (Ok(_), Err(why), request) => Err(Box::new(BadDelivery { request, ..*bad }).because(why.0)),
        (Ok(_), Ok(_), None) => Err(bad.because("it cannot be read".to_owned())),
    }
}

/// A placeholder inbox for the client that queued a request. Nobody listens there, but it has the client's name.
fn caller(principal: &Principal) -> String {
    let name = match principal {
        Principal::Known { name, .. } => Some(name),
        Principal::Anyone => None,
    };
    format!("{}.queued", subjects::inbox(name))
}

impl BadDelivery {
    fn because(mut self: Box<Self>, why: String) -> Box<Self> {
        self.sentence = sentence(why);
        self
    }

    /// Logs the rejection and removes the message from the queue.
    pub(super) async fn refuse(self, context: &Arc<Context>, delivered: &Delivered) {
        let Self { id, caller, request, why, sentence } = self;
        let subject = &delivered.message.subject;
        tracing::warn!(subject, why = sentence, "refused a message from the queue");
        context.count(|counts| {
            counts.errors += 1;
            sentence.clone_into(&mut counts.last_error);
        });
        let ending = Ending::Refused { why, message: sentence.clone() };
        match &request {
            Some(request) => RequestSummary::by(context, request).refused(&context.audit, &ending).await,
            None => context.audit.malformed(Some(&caller), &sentence),
        }
        if let Some(id) = id {
            // A message that no member signed is not journalled.
            if why != Refusal::Unproven {
                job::bury_refused(context, id, &caller, ending).await;
            }
            drop_copy(context, id).await;
        }
        let word = format!("+TERM {why:?}");
        // If this is lost, the message is redelivered and refused again.
        let _ = context.bus.publish(Outgoing::to(&delivered.confirm).payload(word)).await;
    }
}
