//! Asking the queue for one delivery after another.
//!
//! A pull waits at the server until there is something. Where there is nothing to ask, because nothing was
//! ever left for this peer, because the server has no JetStream or does not let us, it is asked again only
//! now and then, when the leader says that there is something now, and at every new connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::super::context::{Context, ShutdownPhase};
use super::super::journal::Delivered;
use super::super::request::Request;
use super::parse;
use peerbus_bus::{Incoming, Outgoing};
use peerbus_protocol::{decode, jetstream, queue};

/// How long the server keeps a pull that has nothing to be answered with.
const PULL_FOR: Duration = Duration::from_secs(60);

/// How often it says meanwhile that it still does.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// How long without one until the pull is taken for lost.
const SILENT_FOR: Duration = Duration::from_secs(40);

/// How often it is looked whether there is a queue by now, give or take a fifth.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Pause after the server has ended a pull for a reason of its own, and while there is no place.
const PAUSE: Duration = Duration::from_secs(1);

/// How often what a dead daemon has left, or what could not begin, is tried again.
const COPIES_EVERY: Duration = Duration::from_secs(30);

/// Deliveries that may wait here.
const WAITING: usize = 64;

/// What became of a pull.
enum PullResult {
    /// Something was delivered, or it ended: time for the next.
    Next,
    /// The server ended it.
    Ended,
    /// There is no queue for us.
    Nothing,
}

/// Fetches for as long as it is polled, and hands requests to the dispatcher.
pub(in super::super) async fn run(context: Arc<Context>, dispatcher: mpsc::Sender<Box<Request>>) {
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
            // Servers before 2.10 are silent where there is no consumer yet.
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

/// Waits until a job could begin here: what is fetched and cannot begin only goes back and forth.
async fn may_take(context: &Context) {
    loop {
        let leaving = *context.leaving.borrow() != ShutdownPhase::No;
        if !leaving && !*context.conflict.borrow() && context.has_a_place() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One pull, from its question to its end.
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
            // One that was never answered at all is not let through to any queue.
            Err(_) => return if was_heard { PullResult::Next } else { PullResult::Nothing },
        };
        // What was left in the queue may look like the server's own word, but for its subject.
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
        // The dispatcher is there for as long as the daemon is.
        Ok(request) => drop(dispatcher.send(request).await),
        Err(bad) => bad.refuse(context, &delivered).await,
    }
}

/// Brings what is kept here, and was not begun, to the dispatcher: at first what a dead daemon has left.
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
