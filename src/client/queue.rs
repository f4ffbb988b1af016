//! Queues requests for absent peers, lists them, and cancels them.
//!
//! Guarantees: the server stores a request once, even if it is sent repeatedly. No job counts as
//! cancelled that may still run. Only the peer knows whether a delivered job has started; if the peer
//! cannot answer, the result says so.

use std::time::Duration;

use futures::StreamExt;
use thiserror::Error;

use super::control::{self, ControlError};
use peerbus_bus::{Bus, BusError, Outgoing};
use peerbus_identity::SigningInput;
use peerbus_protocol::control::{CancelAnswer, Cancelled};
use peerbus_protocol::exec::{ExecRequest, JobResult};
use peerbus_protocol::identity::Principal;
use peerbus_protocol::jetstream::{
    self, ConsumerInfo, Done, JetStreamError, NO_CONSUMER, NO_MESSAGE, NO_MESSAGE_TO_DELETE, NO_STREAM,
    NOT_FOR_ACCOUNT, PublishAck, SUBJECT_TAKEN, StoredMessage, StreamInfo,
};
use peerbus_protocol::queue::{MESSAGE_ID, STREAM};
use peerbus_protocol::subjects;
use peerbus_protocol::{JobId, PeerId, decode};

/// Timeout of a JetStream request.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for each attempt to store a request.
const STORED_WITHIN: [Duration; 4] = [Duration::from_secs(1), Duration::from_secs(2), PATIENCE, PATIENCE];

/// How long a leader may take to create a missing stream.
const MADE_WITHIN: Duration = Duration::from_secs(4);

/// Interval of checks for the stream.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How long a peer may take to report whether a job has started.
const PEER_WITHIN: Duration = Duration::from_secs(6);

/// More jobs than the queue can hold: stop reading from a server that reports more.
const WAITING_MOST: usize = 200_000;

/// Messages fetched in parallel.
const FETCHED_AT_ONCE: usize = 32;

/// Why a queue operation failed.
#[derive(Debug, Error)]
pub enum QueueError {
    /// The server has no JetStream.
    #[error(
        "the server at {0} has no JetStream, which keeps the queue; `jetstream {{ store_dir: … }}` in its \
         configuration gives it one"
    )]
    NoJetStream(String),
    /// The stream does not exist.
    #[error("no leader has made the queue yet: is a leader of this version running?")]
    NoStream,
    /// The queue is full.
    #[error("the queue takes no more: {0}; `d queue list` shows what waits")]
    Full(String),
    /// The request is too large for a message.
    #[error("the request is too large: {0}")]
    TooLarge(BusError),
    /// The request may or may not be stored.
    #[error("the server did not say whether it has the request ({0})")]
    Unsure(String),
    /// JetStream returned another error.
    #[error("asking the queue: {0}")]
    Answer(#[from] JetStreamError),
    /// The bus failed.
    #[error("asking the queue: {0}")]
    Bus(BusError),
}

/// Queues a request, which must have an id and an expiry, for a peer.
///
/// # Errors
/// If the request is not stored, or may or may not be stored.
pub async fn leave(bus: &Bus, peer: &PeerId, id: JobId, request: &ExecRequest) -> Result<(), QueueError> {
    is_made(bus).await?;
    // The signature covers no reply subject, because the server answers this message, not the peer.
    let message = Outgoing::to(&subjects::queue(peer, id)).header(MESSAGE_ID, id);
    let message = bus.sealed(message.payload(decode::to_json(request)).sealed());
    let (mut last, mut may_be_stored) = (String::new(), false);
    for patience in STORED_WITHIN {
        match bus.ask(message.clone(), patience).await {
            Ok(answer) => match jetstream::answer::<PublishAck>(&answer.payload) {
                Ok(stored) if stored.stream == STREAM => return Ok(()),
                Ok(stored) => {
                    last = format!("it was stored in {} and not in {STREAM}", stored.stream);
                    may_be_stored = true;
                }
                // An earlier copy is stored and its answer was lost: no one else has this id.
                Err(JetStreamError::Declined(why)) if is_there_already(&why) => return Ok(()),
                Err(JetStreamError::Declined(why)) => return Err(QueueError::Full(why.to_string())),
                Err(malformed) => {
                    last = malformed.to_string();
                    may_be_stored = true;
                }
            },
            Err(why @ BusError::TooLarge { .. }) => return Err(QueueError::TooLarge(why)),
            Err(why) => {
                last = why.to_string();
                may_be_stored |= !matches!(why, BusError::NoResponders(_));
                // Wait for the next connection if there is none.
                let _ = bus.connected(patience).await;
            }
        }
    }
    Err(if may_be_stored { QueueError::Unsure(last) } else { QueueError::NoStream })
}

fn is_there_already(why: &jetstream::ApiError) -> bool {
    why.err_code == SUBJECT_TAKEN && why.description.contains("per subject")
}

/// Waits until the stream exists; a leader that has just started may have to create it.
async fn is_made(bus: &Bus) -> Result<(), QueueError> {
    let looked = async {
        loop {
            match info(bus, serde_json::json!({})).await {
                Err(QueueError::NoStream) => tokio::time::sleep(LOOK_AGAIN).await,
                info => return info.map(drop),
            }
        }
    };
    tokio::time::timeout(MADE_WITHIN, looked).await.unwrap_or(Err(QueueError::NoStream))
}

async fn info(bus: &Bus, wish: serde_json::Value) -> Result<StreamInfo, QueueError> {
    let payload = ask(bus, &jetstream::stream_info(), &wish).await?;
    jetstream::answer(&payload).map_err(|why| match &why {
        JetStreamError::Declined(error) if error.err_code == NO_STREAM => QueueError::NoStream,
        JetStreamError::Declined(error) if error.err_code == NOT_FOR_ACCOUNT => no_jetstream(bus),
        _ => QueueError::Answer(why),
    })
}

async fn ask(bus: &Bus, subject: &str, wish: &serde_json::Value) -> Result<bytes::Bytes, QueueError> {
    match bus.ask(Outgoing::to(subject).payload(decode::to_json(wish)), PATIENCE).await {
        Ok(answer) => Ok(answer.payload),
        Err(BusError::NoResponders(_)) => Err(no_jetstream(bus)),
        Err(error) => Err(QueueError::Bus(error)),
    }
}

fn no_jetstream(bus: &Bus) -> QueueError {
    QueueError::NoJetStream(bus.address().to_string())
}

/// A queued job.
#[derive(Debug, Clone)]
pub struct QueuedJob {
    /// The peer it is for.
    pub peer: PeerId,
    /// The job's id.
    pub job: JobId,
    /// The sequence number of its message.
    pub seq: u64,
    /// When the server stored it, UTC.
    pub queued_at: String,
    /// The proven sender, or why it is unproven.
    pub principal: Result<Principal, String>,
    /// The request, or why it is unreadable.
    pub request: Result<ExecRequest, String>,
}

/// Queued jobs, of one peer or of all, oldest first.
///
/// # Errors
/// If the queue cannot be read.
pub async fn waiting(bus: &Bus, peer: Option<&PeerId>) -> Result<Vec<QueuedJob>, QueueError> {
    let places =
        places(bus, &peer.map_or_else(|| subjects::QUEUE_ALL.to_owned(), subjects::queue_of)).await?;
    let fetched = futures::stream::iter(places).map(|(peer, job)| async move {
        let message = message(bus, &peer, job).await?;
        Ok(message.map(|message| listed(bus, peer, job, &message)))
    });
    let fetched: Vec<Result<Option<QueuedJob>, QueueError>> =
        fetched.buffered(FETCHED_AT_ONCE).collect().await;
    let mut listed: Vec<QueuedJob> =
        fetched.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
    listed.sort_by_key(|listed| listed.seq);
    Ok(listed)
}

/// Peer and job of each queued message under a subject filter.
pub async fn places(bus: &Bus, filter: &str) -> Result<Vec<(PeerId, JobId)>, QueueError> {
    let (mut places, mut offset) = (Vec::new(), 0);
    loop {
        let page = info(bus, serde_json::json!({ "subjects_filter": filter, "offset": offset })).await?;
        let found = page.state.subjects.len();
        // Skip other subjects; the peer removes such messages.
        places.extend(page.state.subjects.keys().filter_map(|subject| subjects::parse_queue(subject).ok()));
        offset += found;
        if found == 0 || offset >= page.total || offset > WAITING_MOST {
            return Ok(places);
        }
    }
}

/// The message of a queued job; `None` if it is not queued, or no longer.
async fn message(bus: &Bus, peer: &PeerId, job: JobId) -> Result<Option<StoredMessage>, QueueError> {
    let wish = serde_json::json!({ "last_by_subj": subjects::queue(peer, job) });
    let payload = ask(bus, &jetstream::get_message(), &wish).await?;
    match jetstream::message(&payload) {
        Ok(message) => Ok(Some(message)),
        Err(JetStreamError::Declined(why)) if why.err_code == NO_MESSAGE => Ok(None),
        Err(JetStreamError::Declined(why)) if why.err_code == NO_STREAM => Err(QueueError::NoStream),
        Err(why) => Err(QueueError::Answer(why)),
    }
}

fn listed(bus: &Bus, peer: PeerId, job: JobId, message: &StoredMessage) -> QueuedJob {
    let header = |name: &str| message.header(name);
    let parts =
        SigningInput { subject: &message.subject, reply: None, headers: &header, payload: &message.payload };
    let principal = match bus.member() {
        None => Ok(Principal::Anyone),
        Some(member) => {
            member.trust().signer(&parts).map(|signer| signer.principal()).map_err(|why| why.to_string())
        }
    };
    let request = ExecRequest::decode(&message.payload).map_err(|bad| bad.0);
    QueuedJob { peer, job, seq: message.seq, queued_at: message.time.clone(), principal, request }
}

/// The outcome of a cancellation.
#[derive(Debug)]
pub enum CancelOutcome {
    /// The job will surely never run.
    Surely,
    /// The job is running; it was left alone.
    Runs,
    /// The job has ended.
    Ended(Option<Box<JobResult>>),
    /// The job is out of the queue, but its peer had received it and cannot be asked: it may have
    /// started.
    PeerCannotSay(String),
}

/// Cancels a queued job.
///
/// # Errors
/// If the queue cannot be asked.
pub async fn withdraw(bus: &Bus, peer: &PeerId, job: JobId) -> Result<CancelOutcome, QueueError> {
    let Some(waiting) = message(bus, peer, job).await? else {
        return Ok(ask_the_peer(bus, peer, job).await);
    };
    let payload = ask(bus, &jetstream::delete_message(), &serde_json::json!({ "seq": waiting.seq })).await?;
    match jetstream::answer::<Done>(&payload) {
        Err(JetStreamError::Declined(why)) if why.err_code == NO_MESSAGE_TO_DELETE => {
            return Ok(ask_the_peer(bus, peer, job).await);
        }
        deleted => {
            let Done {} = deleted?;
        }
    }
    match was_handed_out(bus, peer, waiting.seq).await {
        // A server that crashed may have forgotten the delivery, but the peer knows. If the peer is
        // away or silent, assume that it received nothing.
        Ok(false) => match ask_the_peer(bus, peer, job).await {
            CancelOutcome::PeerCannotSay(_) => Ok(CancelOutcome::Surely),
            said => Ok(said),
        },
        // The delivery state is unknown, so only the peer can tell.
        Ok(true) | Err(_) => Ok(ask_the_peer(bus, peer, job).await),
    }
}

/// Whether the message was ever delivered to its peer. Call it after deleting the message, so that no
/// further delivery can follow.
async fn was_handed_out(bus: &Bus, peer: &PeerId, seq: u64) -> Result<bool, QueueError> {
    let payload = ask(bus, &jetstream::consumer_info(peer), &serde_json::json!({})).await?;
    match jetstream::answer::<ConsumerInfo>(&payload) {
        Ok(info) => Ok(info.delivered.stream_seq >= seq),
        Err(JetStreamError::Declined(why)) if why.err_code == NO_CONSUMER => Ok(false),
        Err(why) => Err(QueueError::Answer(why)),
    }
}

/// Asks a peer whether a job has started. A peer that has not seen the job will never start it.
async fn ask_the_peer(bus: &Bus, peer: &PeerId, job: JobId) -> CancelOutcome {
    match control::take_back(bus, peer, job, "cancelled while it waited in the queue", PEER_WITHIN).await {
        Ok(answer) if answer.id == job => said(answer),
        Ok(_) => CancelOutcome::PeerCannotSay(format!("{peer} answered about another job")),
        Err(ControlError::Bus(BusError::NoResponders(_))) => {
            CancelOutcome::PeerCannotSay(format!("{peer} is not on the bus"))
        }
        Err(error) => CancelOutcome::PeerCannotSay(format!("{peer}: {error}")),
    }
}

fn said(answer: CancelAnswer) -> CancelOutcome {
    match answer.answer {
        Cancelled::NeverSeen => CancelOutcome::Surely,
        Cancelled::Running => CancelOutcome::Runs,
        Cancelled::Ended => CancelOutcome::Ended(answer.result),
    }
}
