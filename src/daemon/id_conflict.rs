//! One daemon per peer id.
//!
//! Before it serves, a daemon pings its own id: an answer means that the id is taken, and it goes.
//! Two that could not see each other then (each had its own side of a cut) find out at their next
//! connection; then both refuse new jobs until they have been alone for three intervals, because
//! nobody could say which of them a command runs on. Each names itself when it looks for others, so
//! that one of them noticing is enough; and each looks from time to time, because servers that are
//! joined bring two together that had no new connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::context::Context;
use peerbus_bus::{Bus, BusError, Incoming, Outgoing};
use peerbus_protocol::heartbeat::{Heartbeat, INTERVAL_MS, Ping, PingHints};
use peerbus_protocol::{Instance, PeerId, decode, subjects};

/// How long another daemon may take to answer. A daemon answers from a task of its own.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How often an id without an answer, though somebody listens, is asked again: it may belong to a
/// connection of the dead that the server still has to notice.
const ASK: usize = 3;

/// How many times in a row nobody else may answer before a conflict is over.
const ALONE_TIMES: usize = 3;

/// How often a daemon looks without a reason: every third interval.
const LOOK_EVERY: Duration = Duration::from_millis(3 * INTERVAL_MS);

/// Takes note of a ping: one by another daemon of our own id is a reason to look. Another one says that
/// there is something in the queue.
pub(super) fn pinged(context: &Context, payload: &[u8]) {
    if let Ok(PingHints { queue: true }) = decode::json(payload) {
        context.look_into_queue.notify_one();
    }
    if let Ok(Ping { instance }) = decode::json(payload)
        && instance != context.instance
    {
        context.rival.notify_one();
    }
}

/// Another daemon that answers for a peer id.
#[derive(Debug, Clone)]
pub(super) struct ConflictingDaemon {
    pub(super) instance: Instance,
    pub(super) hostname: String,
}

/// Looks whether the id is taken, before we listen to it ourselves.
pub(super) async fn taken(bus: &Bus, peer: &PeerId) -> Result<Option<ConflictingDaemon>, BusError> {
    for _ in 0..ASK {
        match bus.request(&subjects::ping(peer), Bytes::new(), ANSWER_WITHIN).await {
            Ok(answer) => {
                if is_of(bus, peer, &answer)
                    && let Ok(beat) = Heartbeat::decode(&answer.payload)
                {
                    return Ok(Some(ConflictingDaemon { instance: beat.instance, hostname: beat.hostname }));
                }
            }
            Err(BusError::NoResponders(_)) => return Ok(None),
            Err(BusError::Timeout { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    tracing::warn!(%peer, "somebody listens to our id and does not answer; taken for a connection of the dead");
    Ok(None)
}

/// Looks again at every new connection and whenever there is a reason, for as long as it is polled,
/// and keeps the context told.
pub(super) async fn watch(context: Arc<Context>) {
    let mut link = context.bus.link();
    loop {
        if link.borrow_and_update().up {
            settle(&context).await;
        }
        tokio::select! {
            changed = link.changed() => if changed.is_err() { return },
            () = context.rival.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Looks until nobody else has answered three times, or nobody answers the first time.
async fn settle(context: &Context) {
    let mut alone = 0;
    while alone < ALONE_TIMES {
        let others = others(context).await;
        let conflict = *context.conflict.borrow();
        match others.as_ref().map(BTreeSet::first) {
            None | Some(None) if !conflict => return,
            // Who could not look has not been alone.
            None => {}
            Some(None) => alone += 1,
            Some(Some(other)) => {
                alone = 0;
                if !conflict {
                    tracing::error!(peer = %context.peer(), %other, "another daemon answers for our id; new jobs are refused");
                }
                context.conflict.send_replace(true);
            }
        }
        tokio::time::sleep(Duration::from_millis(INTERVAL_MS)).await;
    }
    tracing::warn!(peer = %context.peer(), "alone again; new jobs are accepted");
    context.conflict.send_replace(false);
}

/// Who else answers for our id; unknown where not even we ourselves were heard.
async fn others(context: &Context) -> Option<BTreeSet<Instance>> {
    let mut answers = context.bus.mailbox();
    let looking = decode::to_json(&Ping { instance: context.instance });
    let ping = Outgoing::to(&subjects::ping(context.peer())).reply(answers.subject()).payload(looking);
    context.bus.publish(ping).await.ok()?;
    let mut heard = BTreeSet::new();
    let listen = async {
        loop {
            let answer = answers.next().await;
            if is_of(&context.bus, context.peer(), &answer)
                && let Ok(beat) = Heartbeat::decode(&answer.payload)
            {
                heard.insert(beat.instance);
            }
        }
    };
    // The end of the time is the ordinary end: nobody knows how many are going to answer.
    let _ = tokio::time::timeout(ANSWER_WITHIN, listen).await;
    heard.remove(&context.instance).then_some(heard)
}

/// Whether an answer is of somebody with our own identity, where that can be known.
fn is_of(bus: &Bus, peer: &PeerId, answer: &Incoming) -> bool {
    bus.member()
        .is_none_or(|member| member.speaker(answer).is_ok_and(|signer| signer.name.as_str() == peer.as_str()))
}
