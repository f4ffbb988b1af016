//! Enforces one daemon per peer id.
//!
//! Before it serves, a daemon pings its own id. An answer means that the id is taken, and the daemon exits. Two
//! daemons on different sides of a network partition detect the conflict at their next connection. Both then refuse
//! new jobs until they have been alone for three intervals, because nobody could say which of them runs a command.
//! Each ping names its sender, so it is enough if one of them notices. Daemons also check from time to time,
//! because joining servers can bring two together without a new connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::context::Context;
use peerbus_bus::{Bus, BusError, Incoming, Outgoing};
use peerbus_protocol::heartbeat::{Heartbeat, INTERVAL_MS, Ping, PingHints};
use peerbus_protocol::{Instance, PeerId, decode, subjects};

/// How long another daemon may take to answer. It answers from a separate task.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How often to ping an id that has a listener but does not answer. The listener may be a dead connection that the
/// server has not noticed.
const ASK: usize = 3;

/// Checks in a row without another answer that end a conflict.
const ALONE_TIMES: usize = 3;

/// Interval of regular checks: every third heartbeat interval.
const LOOK_EVERY: Duration = Duration::from_millis(3 * INTERVAL_MS);

/// Handles the hints of a ping: a ping of another daemon with our id triggers a check, and another hint announces a
/// message in the queue.
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

/// Checks whether the id is taken, before we subscribe to it.
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

/// Checks at every new connection and on every hint while it is polled, and updates the context.
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

/// Checks until nobody else answered three times in a row, or at the first check.
async fn settle(context: &Context) {
    let mut alone = 0;
    while alone < ALONE_TIMES {
        let others = others(context).await;
        let conflict = *context.conflict.borrow();
        match others.as_ref().map(BTreeSet::first) {
            None | Some(None) if !conflict => return,
            // A failed check does not count.
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

/// The other instances that answer for our id. `None` if not even our own answer arrived.
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
    // The timeout is the normal end: the number of answers is unknown.
    let _ = tokio::time::timeout(ANSWER_WITHIN, listen).await;
    heard.remove(&context.instance).then_some(heard)
}

/// Whether an answer is signed by our own identity, if that can be checked.
fn is_of(bus: &Bus, peer: &PeerId, answer: &Incoming) -> bool {
    bus.member()
        .is_none_or(|member| member.speaker(answer).is_ok_and(|signer| signer.name.as_str() == peer.as_str()))
}
