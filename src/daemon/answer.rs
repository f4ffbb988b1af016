//! Answers without a running job: refusals, recorded endings, and single JSON replies.

use bytes::Bytes;

use super::context::Context;
use peerbus_bus::Outgoing;
use peerbus_protocol::attach::{
    DETACHED_TYPE, DetachAnswer, Detached, RENAMED_TYPE, Renamed, STARTED_TYPE, Started,
};
use peerbus_protocol::control::{CANCEL_TYPE, CancelAnswer, Cancelled, Control};
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::frame::{self, Accepted, Challenge, FrameKind};
use peerbus_protocol::identity::Principal;
use peerbus_protocol::reply::{ERROR_CODE_HEADER, ERROR_HEADER, ErrorBody};
use peerbus_protocol::send_buffer::Frame;
use peerbus_protocol::signature::REFUSES;
use peerbus_protocol::subjects::{self, Verb};
use peerbus_protocol::{Ending, JobId, PeerId, decode};

/// The answer to a message that no member has proved: a word and a code.
pub(super) const UNPROVEN: (&str, u16) = ("unproven", 403);

/// A frame as a message to its caller. The reply subject makes the server report at once if the caller is gone.
pub(super) fn frame_message(peer: &PeerId, caller: &str, id: JobId, frame: Frame) -> Outgoing {
    let mut message = Outgoing::to(caller)
        .reply(&subjects::job(peer, id, Verb::Credit))
        .header(frame::EPOCH, frame.epoch)
        .header(frame::SEQ, frame.seq)
        .header(frame::KIND, frame.kind)
        .payload(frame.payload);
    if let Some(offset) = frame.offset {
        message = message.header(frame::OFFSET, offset);
    }
    // The totals and digests of the result cover all other frames.
    let is_relied_on = matches!(frame.kind, FrameKind::Result | FrameKind::Detached);
    if is_relied_on { message.sealed() } else { message }
}

/// The same to a viewer of a durable job: the reply subject says which viewer is gone. That the job is there its
/// caller relies on, who leaves it then; on `all` relies who leaves before there is a result.
pub(super) fn viewer_message(
    peer: &PeerId,
    inbox: &str,
    (id, number): (JobId, u64),
    frame: Frame,
    all: bool,
) -> Outgoing {
    let is_relied_on = all || frame.kind == FrameKind::Accepted;
    let message = frame_message(peer, inbox, id, frame).reply(&subjects::viewer(peer, id, number));
    if is_relied_on { message.sealed() } else { message }
}

/// Sends a stream that consists only of its ending, in the given epoch.
pub(super) async fn whole_stream(
    context: &Context,
    caller: &str,
    id: Option<JobId>,
    result: &JobResult,
    epoch: u64,
) {
    ending(context, caller, id, result, epoch, None).await;
}

/// The same for an unproved or unreadable message with this signature.
pub(super) async fn refused_stream(
    context: &Context,
    caller: &str,
    id: Option<JobId>,
    result: &JobResult,
    signature: &str,
) {
    ending(context, caller, id, result, 1, Some(signature)).await;
}

async fn ending(
    context: &Context,
    caller: &str,
    id: Option<JobId>,
    result: &JobResult,
    epoch: u64,
    refuses: Option<&str>,
) {
    let accepted = Accepted::ended(context.instance);
    let frames = [
        (FrameKind::Accepted, decode::to_json(&accepted).into()),
        (FrameKind::Result, decode::to_json(&JobResult { collected: None, ..result.clone() }).into()),
        (FrameKind::End, Bytes::new()),
    ];
    for (seq, (kind, payload)) in (1..).zip(frames) {
        let frame = Frame { epoch, seq, kind, offset: None, payload };
        let message = frame_message(context.peer(), caller, id.unwrap_or_default(), frame);
        let message = match refuses.filter(|_| context.bus.member().is_some()) {
            Some(signature) => message.header(REFUSES, signature),
            None => message,
        };
        say(context, message).await;
    }
}

/// Makes a caller resume. It still talks to an earlier daemon and might wait long. A frame of its own epoch with
/// the highest possible number shows it a gap.
pub(super) async fn have_resumed(context: &Context, caller: &str, id: JobId, epoch: u64) {
    let payload = decode::to_json(&Accepted::ended(context.instance)).into();
    let frame = Frame { epoch, seq: u64::MAX, kind: FrameKind::Accepted, offset: None, payload };
    say(context, frame_message(context.peer(), caller, id, frame)).await;
}

/// Sends the JSON reply of a plain request: the kept bytes if there are any.
pub(super) async fn plain(context: &Context, caller: &str, result: &JobResult, kept: Option<Vec<u8>>) {
    let message = Outgoing::to(caller);
    let message = match &result.ending {
        Ending::Refused { message: sentence, .. } => error(message, "refused", 400, sentence, result),
        Ending::NotStarted { message: sentence, .. } => error(message, "not_started", 422, sentence, result),
        _ => message.payload(kept.unwrap_or_else(|| decode::to_json(result))),
    };
    say(context, message).await;
}

fn error(message: Outgoing, word: &'static str, code: u16, sentence: &str, result: &JobResult) -> Outgoing {
    let body =
        ErrorBody { id: result.id, ending: Some(result.ending.clone()), ..ErrorBody::new(word, sentence) };
    message.header(ERROR_HEADER, word).header(ERROR_CODE_HEADER, code).payload(decode::to_json(&body))
}

/// Reports that an operation on a job failed.
pub(super) async fn cannot(context: &Context, reply: &str, word: &'static str, code: u16, sentence: &str) {
    say(context, no_message(reply, word, code, sentence)).await;
}

/// The same as a message.
pub(super) fn no_message(reply: &str, word: &'static str, code: u16, sentence: &str) -> Outgoing {
    Outgoing::to(reply)
        .header(frame::KIND, FrameKind::Answer)
        .header(ERROR_HEADER, word)
        .header(ERROR_CODE_HEADER, code)
        .payload(decode::to_json(&ErrorBody::new(word, sentence)))
        .sealed()
}

/// Reports that a job belongs to another principal.
pub(super) async fn not_yours(
    context: &Context,
    (id, owner): (JobId, Option<&Principal>),
    word: &Control,
    (reply, principal): (&str, &Principal),
) {
    let sentence = format!("{id} is another caller's job");
    context.audit.control_refused((id, owner), word, (reply, principal), &sentence).await;
    cannot(context, reply, "not_yours", 403, &sentence).await;
}

/// Reports a running durable job to a caller that requested no stream.
pub(super) async fn started(context: &Context, caller: &str, id: JobId) {
    let (peer, instance) = (context.peer().clone(), context.instance);
    let started = Started { kind: STARTED_TYPE.to_owned(), id, peer, instance };
    say(context, Outgoing::to(caller).payload(decode::to_json(&started))).await;
}

/// Reports that a job is not durable and so cannot be attached to.
pub(super) async fn not_durable(context: &Context, reply: &str, id: JobId) {
    let sentence = format!("{id} is not durable: it has no log, and ends with its caller");
    cannot(context, reply, "not_durable", 409, &sentence).await;
}

/// Answers a cancel.
pub(super) async fn cancelled(
    context: &Context,
    reply: &str,
    id: JobId,
    answer: Cancelled,
    result: Option<JobResult>,
) {
    let result = result.map(|result| Box::new(JobResult { collected: None, ..result }));
    let body = CancelAnswer { kind: CANCEL_TYPE.to_owned(), id, instance: context.instance, answer, result };
    let message = Outgoing::to(reply).header(frame::KIND, FrameKind::Answer).payload(decode::to_json(&body));
    say(context, message).await;
}

/// Reports the result of a signal to a client that does not follow the job.
pub(super) async fn signalled(context: &Context, reply: &str, signalled: &frame::Signalled) {
    let body = decode::to_json(signalled);
    say(context, Outgoing::to(reply).header(frame::KIND, FrameKind::Answer).payload(body)).await;
}

/// Reports a job's new name.
pub(super) async fn renamed(context: &Context, reply: &str, id: JobId, name: &str) {
    let (instance, name) = (context.instance, name.to_owned());
    let body = decode::to_json(&Renamed { kind: RENAMED_TYPE.to_owned(), id, instance, name });
    say(context, Outgoing::to(reply).header(frame::KIND, FrameKind::Answer).payload(body)).await;
}

/// Reports how many viewers were detached.
pub(super) async fn have_left(context: &Context, reply: &str, id: JobId, viewers: u32) {
    let instance = context.instance;
    let body = decode::to_json(&DetachAnswer { kind: DETACHED_TYPE.to_owned(), id, instance, viewers });
    say(context, Outgoing::to(reply).header(frame::KIND, FrameKind::Answer).payload(body)).await;
}

/// Tells a resuming client that it was detached: a stream of this one frame.
pub(super) async fn detached(
    context: &Context,
    reply: &str,
    id: JobId,
    epoch: u64,
    accepted: &Accepted,
    by: &str,
) {
    let detached = Detached { by: by.to_owned() };
    let frames =
        [(FrameKind::Accepted, decode::to_json(accepted)), (FrameKind::Detached, decode::to_json(&detached))];
    for (seq, (kind, payload)) in (1..).zip(frames) {
        let frame = Frame { epoch, seq, kind, offset: None, payload: payload.into() };
        say(context, frame_message(context.peer(), reply, id, frame)).await;
    }
}

/// Asks the caller to sign its request again.
pub(super) async fn challenged(context: &Context, caller: &str, id: JobId, challenge: String) {
    let body = decode::to_json(&Challenge { id, challenge });
    say(context, Outgoing::to(caller).header(frame::KIND, FrameKind::Challenge).payload(body)).await;
}

/// Sends a message once. If it is lost, the client retries.
async fn say(context: &Context, message: Outgoing) {
    if let Err(error) = context.bus.publish(message.sealed()).await {
        tracing::debug!(%error, "an answer was not sent");
    }
}
