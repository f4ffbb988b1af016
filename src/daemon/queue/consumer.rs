//! Pulls one delivery after another from the queue.
//!
//! A pull waits at the server until there is a message. If there is no queue for this peer, because nothing was
//! ever queued for it, or because the server has no JetStream or denies access, the daemon retries rarely: from
//! time to time, when the leader announces a message, and at every new connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::parse;
use crate::context::{Context, ShutdownPhase};
use crate::journal::Delivered;
use crate::request::Request;
use peerbus_bus::{Incoming, Outgoing};
use peerbus_protocol::{decode, jetstream, queue};

/// How long the server holds a pull without messages.
const PULL_FOR: Duration = Duration::from_secs(60);

/// Interval of the server's idle heartbeats during a pull.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Silence after which a pull counts as lost.
const SILENT_FOR: Duration = Duration::from_secs(40);

/// Interval of checks for a queue, with 20% jitter.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Pause after the server ended a pull, and while there is no free slot.
const PAUSE: Duration = Duration::from_secs(1);

/// Retry interval for copies that a dead daemon left or that could not begin.
const COPIES_EVERY: Duration = Duration::from_secs(30);

/// Deliveries that may wait here.
const WAITING: usize = 64;

/// How a pull ended.
enum PullResult {
    /// With a message or by its timeout: pull again.
    Next,
    /// The server ended it.
    Ended,
    /// There is no queue for this peer.
    Nothing,
}

/// Pulls while it is polled, and hands requests to the dispatcher.
pub(crate) async fn run(context: Arc<Context>, dispatcher: mpsc::Sender<Box<Request>>) {
    tokio::join!(pull(&context, &dispatcher), bring_back(&context, &dispatcher));
}

async fn pull(context: &Arc<Context>, dispatcher: &mpsc::Sender<Box<Request>>) {
    let here = context.bus.own_subject();
    let mut deliveries = context.bus.subscribe(&here, None, WAITING).await;
    let mut link = context.bus.link();
    loop {
        let up = link.wait_for(|link| link.up).await.map(|link| link.generation);
        let Ok(generation) = up else { return std::future::pending().await };
        may_take(context).await;
        let mut lost = link.clone();
        let pulled = tokio::select! {
            pulled = one(context, &here, &mut deliveries, dispatcher) => pulled,
            _ = lost.wait_for(|link| !link.up || link.generation != generation) => PullResult::Next,
            // Servers before 2.10 are silent if there is no consumer yet.
            () = context.look_into_queue.notified() => PullResult::Next,
        };
        match pulled {
            PullResult::Next => {}
            PullResult::Ended => tokio::time::sleep(PAUSE).await,
            PullResult::Nothing => tokio::select! {
                () = context.look_into_queue.notified() => {}
                _ = link.wait_for(|link| !link.up || link.generation != generation) => {}
                () = tokio::time::sleep(LOOK_EVERY.mul_f64(rand::random_range(0.8..1.2))) => {}
            },
        }
    }
}

/// Waits until a job could begin here: a job fetched too early would only be redelivered.
async fn may_take(context: &Context) {
    loop {
        let leaving = *context.leaving.borrow() != ShutdownPhase::No;
        if !leaving && !*context.conflict.borrow() && context.has_a_place() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One pull, from request to end.
async fn one(
    context: &Arc<Context>,
    here: &str,
    deliveries: &mut mpsc::Receiver<Incoming>,
    dispatcher: &mpsc::Sender<Box<Request>>,
) -> PullResult {
    let wish = serde_json::json!({
        "batch": 1,
        "expires": queue::nanoseconds(PULL_FOR),
        "idle_heartbeat": queue::nanoseconds(SIGN_OF_LIFE),
    });
    let subject = jetstream::next_message(context.peer());
    let question = Outgoing::to(&subject).reply(here).payload(decode::to_json(&wish));
    if context.bus.publish(question).await.is_err() {
        return PullResult::Ended;
    }
    let mut was_heard = false;
    loop {
        let said = match tokio::time::timeout(SILENT_FOR, deliveries.recv()).await {
            Ok(Some(said)) => said,
            Ok(None) => return PullResult::Ended,
            // A pull without any answer: this peer has no access to a queue.
            Err(_) => return if was_heard { PullResult::Next } else { PullResult::Nothing },
        };
        // A queued message may look like a server status; only its subject tells them apart.
        match said.status.filter(|_| said.subject == here) {
            Some(100) => was_heard = true,
            Some(503) => return PullResult::Nothing,
            Some(408) => return PullResult::Next,
            Some(status) => {
                tracing::debug!(status, "the server ended a question to the queue");
                return PullResult::Ended;
            }
            None => {
                hand(context, dispatcher, said).await;
                return PullResult::Next;
            }
        }
    }
}

async fn hand(context: &Arc<Context>, dispatcher: &mpsc::Sender<Box<Request>>, said: Incoming) {
    let confirm = said.reply.clone().unwrap_or_default();
    if !jetstream::is_confirmation(&confirm, context.peer()) {
        tracing::warn!(subject = said.subject, "ignored a delivery that is not from this peer's queue");
        return;
    }
    let delivered = Delivered { message: Incoming { reply: None, ..said }, confirm };
    read(context, dispatcher, delivered).await;
}

async fn read(context: &Arc<Context>, dispatcher: &mpsc::Sender<Box<Request>>, delivered: Delivered) {
    match parse::request(context, &delivered) {
        // The dispatcher lives as long as the daemon.
        Ok(request) => drop(dispatcher.send(request).await),
        Err(bad) => bad.refuse(context, &delivered).await,
    }
}

/// Brings kept copies that have not begun to the dispatcher. The first ones are those of a dead daemon.
async fn bring_back(context: &Arc<Context>, dispatcher: &mpsc::Sender<Box<Request>>) {
    loop {
        let journal = context.journal.clone();
        let copies = tokio::task::spawn_blocking(move || journal.copies()).await;
        match copies.map_err(std::io::Error::other).and_then(|copies| copies) {
            Ok(copies) => {
                for copy in copies {
                    match copy.delivered {
                        Ok(delivered) => read(context, dispatcher, delivered).await,
                        Err(error) => {
                            tracing::error!(job = %copy.id, %error, "what was kept of a queued job cannot be read; it does not run");
                            super::delivery::drop_copy(context, copy.id).await;
                        }
                    }
                }
            }
            Err(error) => tracing::error!(%error, "reading what was kept of queued jobs"),
        }
        tokio::select! {
            () = context.look_at_copies.notified() => {}
            () = tokio::time::sleep(COPIES_EVERY) => {}
        }
    }
}
