//! From a delivery to a request, or why it is none.
//!
//! What cannot be read, or was not left by a member, is taken out of the queue: it would be no better the
//! next time. It is said in the log and in the audit log; and where somebody of the fleet did leave it, in
//! the journal too, so that whoever asks for its result is told.

use std::sync::Arc;

use super::super::asked::Asked;
use super::super::context::Context;
use super::super::exec::{self, Request};
use super::super::job;
use super::super::journal::Delivered;
use super::super::proof;
use super::ticket::{Ticket, drop_copy};
use peerbus_bus::Outgoing;
use peerbus_protocol::ending::{Refusal, sentence};
use peerbus_protocol::exec::ExecRequest;
use peerbus_protocol::identity::Asker;
use peerbus_protocol::queue::Span;
use peerbus_protocol::{Ending, JobId, subjects};

/// A message that does not become a job.
pub(super) struct Bad {
    id: Option<JobId>,
    caller: String,
    /// What it asks for, where that can be read.
    request: Option<Box<Request>>,
    why: Refusal,
    sentence: String,
}

/// Reads a delivery. Waits for nothing.
pub(super) fn request(context: &Context, delivered: &Delivered) -> Result<Box<Request>, Box<Bad>> {
    context.count(|counts| counts.requests += 1);
    let message = &delivered.message;
    let mut bad = Box::new(Bad {
        id: None,
        caller: caller(&Asker::Anyone),
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
    let span = exec.as_ref().map_err(Clone::clone).and_then(|exec| Span::of(exec, id));
    let proved = proof::of_queued(context, message);
    let asker = proved.clone().unwrap_or(Asker::Anyone);
    bad.caller = caller(&asker);
    let request = exec.ok().map(|exec| {
        // Where it can be read and its time cannot, it is refused below.
        let span = span.clone().unwrap_or(Span { made_ms: 0, expires_ms: 0 });
        Box::new(Request {
            id,
            digest: exec::digest(&message.payload, &asker),
            exec,
            caller: caller(&asker),
            asker,
            signed: None,
            queued: Some(Ticket { span, delivered: delivered.clone() }),
        })
    });
    match (proved, span, request) {
        (Ok(_), Ok(_), Some(request)) => Ok(request),
        (Err(why), _, request) => Err(Box::new(Bad { request, why: Refusal::Unproven, ..*bad }).because(why)),
        (Ok(_), Err(why), request) => Err(Box::new(Bad { request, ..*bad }).because(why.0)),
        (Ok(_), Ok(_), None) => Err(bad.because("it cannot be read".to_owned())),
    }
}

/// The inbox that stands for whoever left a request: nobody listens there, but the name in it is theirs.
fn caller(asker: &Asker) -> String {
    let name = match asker {
        Asker::Known { name, .. } => Some(name),
        Asker::Anyone => None,
    };
    format!("{}.queued", subjects::inbox(name))
}

impl Bad {
    fn because(mut self: Box<Self>, why: String) -> Box<Self> {
        self.sentence = sentence(why);
        self
    }

    /// Says it, and has the queue forget the message.
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
            Some(request) => Asked::by(context, request).refused(&context.audit, &ending).await,
            None => context.audit.malformed(Some(&caller), &sentence),
        }
        if let Some(id) = id {
            // Of what nobody of the fleet has said, nothing is written to the journal.
            if why != Refusal::Unproven {
                job::bury_refused(context, id, &caller, ending).await;
            }
            drop_copy(context, id).await;
        }
        let word = format!("+TERM {why:?}");
        // Lost, it is delivered and refused again.
        let _ = context.bus.publish(Outgoing::to(&delivered.confirm).payload(word)).await;
    }
}
