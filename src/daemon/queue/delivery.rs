//! What the server is told of one delivery, and the steps from there to the start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::super::auth;
use super::super::context::{Context, ShutdownPhase};
use super::super::dispatcher::Message;
use super::super::job::blocking;
use super::super::journal::{Delivered, Entry};
use super::super::policy;
use super::super::request::Request;
use super::super::request_summary::RequestSummary;
use peerbus_bus::{BusError, Outgoing};
use peerbus_protocol::control::Control;
use peerbus_protocol::ending::{Refusal, sentence};
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::queue::{QueueDue, QueueLifetime};
use peerbus_protocol::{Ending, JobId};

/// The word for a delivery that must not come again.
const DONE: &str = "+ACK";

/// How long the server may take to confirm.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// Pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Words about a job that are held back until it is known whether it begins.
const HELD_MOST: usize = 64;

/// How long it is asked before all is looked at anew: the policy, who is believed, and whether there is a place.
const ASKED_FOR: Duration = Duration::from_secs(60);

/// When what cannot begin now is delivered again.
const LATER: Duration = Duration::from_secs(5);

/// Longest wait for a clock that is behind.
const CLOCK_LATER: Duration = Duration::from_secs(60);

/// A delivery of a request.
#[derive(Debug, Clone)]
pub(in super::super) struct Ticket {
    /// When it was made, and until when it may begin.
    pub(super) span: QueueLifetime,
    pub(super) delivered: Delivered,
}

/// What the server has said to a job that is to begin.
enum AckResult {
    Yes,
    /// Not before its time was over.
    Expired,
    /// Not before this daemon has to go, or much may have changed: the link was lost, or a minute is over.
    Anew,
    /// Not before somebody has taken it back, who is still to be answered.
    TakenBack,
}

/// What became of a job on its way from the journal to its start.
pub(in super::super) enum Taken {
    /// It is about to start; that is on the disk.
    Start(Entry),
    /// It does not start now. Its copy is here, and brought back.
    Later,
    /// It never starts, and that is written down.
    Never,
}

impl Ticket {
    /// Whether it may begin now; how it ends, if it never may; none where it is to come again.
    pub(in super::super) async fn due(
        &self,
        context: &Arc<Context>,
        id: JobId,
    ) -> Option<Result<(), Ending>> {
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

    /// What was delivered.
    pub(in super::super) fn delivered(&self) -> &Delivered {
        &self.delivered
    }

    /// The journal knows the job: it need not be delivered any more.
    pub(in super::super) async fn settle(&self, context: &Arc<Context>, id: JobId) {
        // Lost, it is delivered and settled again.
        let _ = context.bus.publish(Outgoing::to(&self.delivered.confirm).payload(DONE)).await;
        drop_copy(context, id).await;
    }

    /// It cannot begin now, for a reason that passes.
    pub(in super::super) async fn later(&self, context: &Arc<Context>, id: JobId, why: &str) {
        self.not_now(context, id, why, LATER).await;
    }

    async fn not_now(&self, context: &Arc<Context>, id: JobId, why: &str, pause: Duration) {
        tracing::warn!(job = %id, why, "a queued job cannot begin now; it is delivered again");
        let word = format!("-NAK {{\"delay\":{}}}", pause.as_nanos());
        // Lost, it is delivered again once its time to be confirmed is over.
        let _ = context.bus.publish(Outgoing::to(&self.delivered.confirm).payload(word)).await;
    }

    /// Has the server confirm that it will not deliver this any more, for as long as what was checked before
    /// holds. It may know nothing of this delivery, because it was killed and lost that; then it delivers the
    /// request again, and confirms that.
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
                        // Whoever finds no room says it again.
                        _ => {}
                    }
                    continue;
                }
            };
            match asked {
                // Its clock may have been set, or this machine have slept, while that was under way.
                Ok(_) if now_ms() >= self.span.expires_ms => return AckResult::Expired,
                Ok(_) => return AckResult::Yes,
                Err(BusError::Timeout { .. }) => {}
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// Whether this takes a job back that has not begun, from somebody who may.
fn takes_back(context: &Context, request: &Request, message: &Message) -> bool {
    let Message::Word { steer: Control::Cancel(cancel), principal, for_another: false, .. } = message else {
        return false;
    };
    cancel.instance.is_none_or(|instance| instance == context.instance)
        && policy::may_steer(principal, Some(&request.principal))
}

/// Takes a job from the queue that is in the journal: once the server has let go of it, and it is on the
/// disk that it starts, it may. What is said about it meanwhile is held back.
pub(in super::super) async fn taken(
    context: &Arc<Context>,
    (ticket, request): (&Ticket, &Request),
    asked: &RequestSummary,
    mut entry: Entry,
    (messages, held): (&mut mpsc::Receiver<Message>, &mut Vec<Message>),
) -> Taken {
    let id = request.id;
    match ticket.confirmed(context, request, messages, held).await {
        AckResult::Yes => {}
        // Nobody knows it then, so it is buried by the word that takes it back; what is left of it finds that.
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
    // Whoever left it may have been revoked since it was delivered.
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
            // Of a durable job its shim tells whether it runs: until then it can be begun again.
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

/// It has surely not started, and is begun again from its copy.
async fn withdrawn(entry: Entry, id: JobId) -> Taken {
    if let Err(error) = blocking(move || entry.withdraw()).await {
        tracing::error!(job = %id, %error, "taking a queued job out of the journal that has not started");
    }
    Taken::Later
}

/// It is refused for good, on its last step.
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

/// Removes what was kept of a job. What cannot be removed is brought back, and found known.
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
