//! Acknowledges a delivery, and takes it step by step to the start of its job.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::auth;
use crate::context::{Context, ShutdownPhase};
use crate::dispatcher::Message;
use crate::job::blocking;
use crate::journal::{Delivered, Entry};
use crate::policy;
use crate::request::Request;
use crate::request_summary::RequestSummary;
use peerbus_bus::{BusError, Outgoing};
use peerbus_protocol::control::Control;
use peerbus_protocol::ending::{Refusal, sentence};
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::queue::{QueueDue, QueueLifetime};
use peerbus_protocol::{Ending, JobId};

/// The acknowledgement: do not redeliver.
const DONE: &str = "+ACK";

/// How long the server may take to confirm an acknowledgement.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// Pause before the acknowledgement is repeated.
const PAUSE: Duration = Duration::from_millis(500);

/// Control messages held back until it is known whether the job begins.
const HELD_MOST: usize = 64;

/// How long to repeat the acknowledgement before all checks run again: policy, identity and free slots.
const ASKED_FOR: Duration = Duration::from_secs(60);

/// Redelivery delay of a request that cannot begin now.
const LATER: Duration = Duration::from_secs(5);

/// Maximum redelivery delay because of a clock that is behind.
const CLOCK_LATER: Duration = Duration::from_secs(60);

/// The delivery of a request.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    /// When the request was made, and when it expires.
    pub(super) span: QueueLifetime,
    pub(super) delivered: Delivered,
}

/// The outcome of acknowledging a job that should begin.
enum AckResult {
    Yes,
    /// The request expired first.
    Expired,
    /// No confirmation: the daemon shuts down, the link was lost, or a minute has passed, so the checks must run
    /// again.
    Anew,
    /// A client cancelled the request first and still needs an answer.
    TakenBack,
}

/// The outcome of claiming a journalled job.
pub(crate) enum Taken {
    /// It is about to start, and this is on the disk.
    Start(Entry),
    /// It does not start now. Its copy is kept and tried again.
    Later,
    /// It never starts, and this is recorded.
    Never,
}

impl Ticket {
    /// Whether the request may begin now: `Ok` if so, its ending if it never may, `None` if it should be
    /// redelivered.
    pub(crate) async fn due(&self, context: &Arc<Context>, id: JobId) -> Option<Result<(), Ending>> {
        let journal = context.journal.clone();
        let remembered = match blocking(move || journal.remembers_since_ms()).await {
            Ok(since) => since,
            Err(error) => {
                self.not_now(context, id, &format!("reading the journal: {error}"), LATER).await;
                return None;
            }
        };
        let peer = context.peer();
        let message = match self.span.judged(now_ms(), remembered) {
            QueueDue::Now => return Some(Ok(())),
            QueueDue::NotYet { for_ms } => {
                let wait = Duration::from_millis(for_ms);
                let why = format!("by this machine's clock it was not made yet, by {wait:?}");
                self.not_now(context, id, &why, wait.min(CLOCK_LATER)).await;
                return None;
            }
            QueueDue::Expired => self.expired(context),
            QueueDue::PerhapsForgotten => {
                let since = utc(remembered);
                format!("{peer} remembers ids since {since}, and this one is older: it may have run before")
            }
        };
        Some(Err(Ending::Refused { why: Refusal::Expired, message }))
    }

    fn expired(&self, context: &Context) -> String {
        let until = utc(self.span.expires_ms);
        format!(
            "it has waited in the queue until {until} and expired before {} could take it",
            context.peer()
        )
    }

    /// The delivery.
    pub(crate) fn delivered(&self) -> &Delivered {
        &self.delivered
    }

    /// Acknowledges a job that the journal already knows.
    pub(crate) async fn settle(&self, context: &Arc<Context>, id: JobId) {
        // If the acknowledgement is lost, the request is redelivered and acknowledged again.
        let _ = context.bus.publish(Outgoing::to(&self.delivered.confirm).payload(DONE)).await;
        drop_copy(context, id).await;
    }

    /// Postpones the request for a temporary reason.
    pub(crate) async fn later(&self, context: &Arc<Context>, id: JobId, why: &str) {
        self.not_now(context, id, why, LATER).await;
    }

    async fn not_now(&self, context: &Arc<Context>, id: JobId, why: &str, pause: Duration) {
        tracing::warn!(job = %id, why, "a queued job cannot begin now; it is delivered again");
        let word = format!("-NAK {{\"delay\":{}}}", pause.as_nanos());
        // If this message is lost, the request is redelivered after the acknowledgement timeout.
        let _ = context.bus.publish(Outgoing::to(&self.delivered.confirm).payload(word)).await;
    }

    /// Waits for the server to confirm the acknowledgement, while the earlier checks stay valid. A restarted server
    /// may have forgotten the delivery. Then it redelivers the request, and confirms that delivery.
    async fn confirmed(
        &self,
        context: &Context,
        request: &Request,
        messages: &mut mpsc::Receiver<Message>,
        held: &mut Vec<Message>,
    ) -> AckResult {
        let mut leaving = context.leaving.subscribe();
        let mut confirm = self.delivered.confirm.clone();
        let generation = || context.bus.link().borrow().generation;
        let (since, link) = (Instant::now(), generation());
        loop {
            if now_ms() >= self.span.expires_ms {
                return AckResult::Expired;
            }
            if generation() != link || since.elapsed() >= ASKED_FOR {
                return AckResult::Anew;
            }
            let word = Outgoing::to(&confirm).payload(DONE);
            let asked = tokio::select! {
                asked = context.bus.ask(word, CONFIRM_WITHIN) => asked,
                _ = leaving.wait_for(|stage| *stage != ShutdownPhase::No) => return AckResult::Anew,
                Some(message) = messages.recv() => {
                    match message {
                        Message::Request(again) if again.digest == request.digest && again.queued.is_some() => {
                            confirm = again.queued.map_or(confirm, |again| again.delivered.confirm);
                        }
                        message if takes_back(context, request, &message) => {
                            held.push(message);
                            return AckResult::TakenBack;
                        }
                        message if held.len() < HELD_MOST => held.push(message),
                        // If there is no room, the client retries.
                        _ => {}
                    }
                    continue;
                }
            };
            match asked {
                // The clock may have been set, or the machine may have slept, in the meantime.
                Ok(_) if now_ms() >= self.span.expires_ms => return AckResult::Expired,
                Ok(_) => return AckResult::Yes,
                Err(BusError::Timeout { .. }) => {}
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// Whether this message cancels a job that has not begun, from a client that may do so.
fn takes_back(context: &Context, request: &Request, message: &Message) -> bool {
    let Message::Word { steer: Control::Cancel(cancel), principal, for_another: false, .. } = message else {
        return false;
    };
    cancel.instance.is_none_or(|instance| instance == context.instance)
        && policy::may_steer(principal, Some(&request.principal))
}

/// Claims a journalled job. It may start once the server has confirmed the acknowledgement and the journal has
/// `starting` on the disk. Control messages are held back meanwhile.
pub(crate) async fn taken(
    context: &Arc<Context>,
    (ticket, request): (&Ticket, &Request),
    asked: &RequestSummary,
    mut entry: Entry,
    (messages, held): (&mut mpsc::Receiver<Message>, &mut Vec<Message>),
) -> Taken {
    let id = request.id;
    match ticket.confirmed(context, request, messages, held).await {
        AckResult::Yes => {}
        // Nothing knows the job now, so the cancel writes a tombstone. A leftover copy will find that tombstone.
        AckResult::TakenBack => return withdrawn(entry, id).await,
        AckResult::Anew => {
            let taken = withdrawn(entry, id).await;
            context.look_at_copies.notify_one();
            return taken;
        }
        AckResult::Expired => {
            let ending = Ending::Refused { why: Refusal::Expired, message: ticket.expired(context) };
            return never(context, ticket, asked, entry, id, ending).await;
        }
    }
    // The client that queued it may have been revoked since the delivery.
    if let Err(why) = auth::of_queued(context, &ticket.delivered.message) {
        let ending = Ending::Refused { why: Refusal::Unproven, message: sentence(why) };
        return never(context, ticket, asked, entry, id, ending).await;
    }
    let starting = move || {
        let starting = entry.starting();
        Ok((entry, starting))
    };
    match blocking(starting).await {
        Ok((entry, Ok(()))) => {
            // A durable job's shim tells whether it runs. Until then the copy is needed to begin it again.
            if !request.exec.is_durable() {
                drop_copy(context, id).await;
            }
            Taken::Start(entry)
        }
        Ok((entry, Err(error))) => {
            tracing::error!(job = %id, %error, "writing to the journal that a queued job starts; it does not start");
            withdrawn(entry, id).await
        }
        // The record stays open; the next daemon decides by what was written.
        Err(error) => {
            tracing::error!(job = %id, %error, "writing to the journal that a queued job starts");
            Taken::Later
        }
    }
}

/// Withdraws a job that has certainly not started. It will begin again from its copy.
async fn withdrawn(entry: Entry, id: JobId) -> Taken {
    if let Err(error) = blocking(move || entry.withdraw()).await {
        tracing::error!(job = %id, %error, "taking a queued job out of the journal that has not started");
    }
    Taken::Later
}

/// Refuses the job for good at its last step.
async fn never(
    context: &Arc<Context>,
    ticket: &Ticket,
    asked: &RequestSummary,
    entry: Entry,
    id: JobId,
    ending: Ending,
) -> Taken {
    tracing::warn!(job = %id, why = %ending, "a queued job does not begin");
    asked.refused(&context.audit, &ending).await;
    let result = JobResult::bare(Some(id), context.peer().clone(), context.instance, ending);
    if let Err(error) = blocking(move || entry.ended(&result)).await {
        tracing::error!(job = %id, %error, "writing to the journal that a queued job was refused");
        return Taken::Later;
    }
    ticket.settle(context, id).await;
    Taken::Never
}

/// Removes the copy of a job. If this fails, the copy is tried again and its id is found known.
pub(super) async fn drop_copy(context: &Context, id: JobId) {
    let journal = context.journal.clone();
    if let Err(error) = blocking(move || journal.drop_copy(id)).await {
        tracing::error!(job = %id, %error, "removing what was kept of a queued job");
    }
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn utc(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms);
    time.map_or_else(|_| format!("{ms} ms"), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
