//! The queue's JetStream stream and consumers: the leader creates them and keeps their
//! configuration right.
//!
//! The leader polls the stream once a second, which costs the server next to nothing. When a new
//! message waits in it, the leader creates consumers for the addressed peers and notifies them. So
//! a fleet that does not use the queue has no stream, and a peer that was never sent a queued
//! command has no consumer.
//!
//! Guarantees: other settings of an administrator, such as replicas, stay. The leader logs a server
//! without JetStream once and retries now and then. Nothing here delays the leader.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use peerbus_bus::{Bus, BusError, Outgoing};
use peerbus_protocol::heartbeat::PingHints;
use peerbus_protocol::jetstream::{self, JetStreamError, NO_STREAM, NOT_FOR_ACCOUNT, StreamInfo};
use peerbus_protocol::{PeerId, decode, queue, subjects};

/// How often the leader polls the stream.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// After this many polls, everything is checked again: somebody may have deleted a consumer.
const ANEW_AFTER: u32 = 3_600;

/// Polls to skip after JetStream is missing or declined a request.
const TRY_AGAIN_AFTER: u32 = 30;

/// Timeout of a JetStream request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no queue now.
#[derive(Debug, thiserror::Error)]
enum QueueError {
    #[error(
        "the server has no JetStream, so nothing can be left in the queue for peers that are away; \
         `jetstream {{ store_dir: … }}` in its configuration gives it one"
    )]
    NoJetStream,
    #[error("there is a stream {} of somebody else's, on {subjects}", queue::STREAM)]
    AnotherStream { subjects: String },
    #[error("{doing}: {why}")]
    Declined { doing: String, why: JetStreamError },
    #[error("looking at the queue: {0}")]
    Bus(BusError),
}

/// Maintains the queue for as long as this future is polled.
pub(super) async fn keep(bus: Bus) {
    let mut keeper = StreamReconciler { bus, seen: None, made: BTreeSet::new(), generation: 0 };
    let (mut complaint, mut looks_to_wait, mut looked) = (String::new(), 0_u32, 0_u32);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let link = *keeper.bus.link().borrow();
        looked = (looked + 1) % ANEW_AFTER;
        if link.generation != keeper.generation || looked == 0 {
            // After a reconnect, the server may be another one, without our stream and consumers.
            keeper =
                StreamReconciler { seen: None, made: BTreeSet::new(), generation: link.generation, ..keeper };
            looks_to_wait = 0;
        }
        if !link.up || looks_to_wait > 0 {
            looks_to_wait = looks_to_wait.saturating_sub(1);
            continue;
        }
        match keeper.look().await {
            Ok(()) => complaint.clear(),
            Err(QueueError::Bus(BusError::Disconnected)) => {}
            Err(why) => {
                looks_to_wait = TRY_AGAIN_AFTER;
                complain(&mut complaint, &why);
            }
        }
    }
}

/// Logs an error once, until it changes. No JetStream is only an info: a fleet that does not use
/// the queue needs none.
fn complain(before: &mut String, why: &QueueError) {
    let text = why.to_string();
    if *before == text {
        return;
    }
    match why {
        QueueError::NoJetStream => tracing::info!(why = text, "there is no queue"),
        _ => tracing::warn!(why = text, "there is no queue for peers that are away"),
    }
    *before = text;
}

/// More subjects than the queue can hold. Paging stops here even if the server reports more.
const WAITING_MOST: usize = 200_000;

struct StreamReconciler {
    bus: Bus,
    /// Last sequence of the stream when its subjects were last read.
    seen: Option<u64>,
    /// Peers whose consumers were created on this connection.
    made: BTreeSet<PeerId>,
    generation: u64,
}

impl StreamReconciler {
    async fn look(&mut self) -> Result<(), QueueError> {
        let info = match self.info(serde_json::json!({})).await {
            Err(QueueError::Declined { why: JetStreamError::Declined(error), .. })
                if error.err_code == NO_STREAM =>
            {
                self.seen = None;
                self.made.clear();
                self.make(jetstream::create_stream(), queue::stream()).await?
            }
            info => info?,
        };
        let subjects = &info.config["subjects"];
        if *subjects != queue::stream()["subjects"] {
            return Err(QueueError::AnotherStream { subjects: subjects.to_string() });
        }
        if let Some(right) = put_right(&info.config) {
            tracing::warn!("the queue's stream is not as it has to be; changing it");
            self.make(jetstream::update_stream(), right).await?;
        }
        if self.seen == Some(info.state.last_seq) {
            return Ok(());
        }
        for peer in self.awaited().await? {
            self.open_for(&peer).await?;
        }
        self.seen = Some(info.state.last_seq);
        Ok(())
    }

    /// The peers that have messages waiting.
    async fn awaited(&self) -> Result<BTreeSet<PeerId>, QueueError> {
        let mut peers = BTreeSet::new();
        let mut offset = 0;
        loop {
            let page = serde_json::json!({ "subjects_filter": subjects::QUEUE_ALL, "offset": offset });
            let info = self.info(page).await?;
            let found = info.state.subjects.len();
            let waiting = info.state.subjects.keys();
            peers.extend(waiting.filter_map(|subject| subject.split('.').nth(1)?.parse().ok()));
            offset += found;
            if found == 0 || offset >= info.total || offset > WAITING_MOST {
                return Ok(peers);
            }
        }
    }

    /// Ensures that a peer's consumer exists, and tells the peer about a new one.
    async fn open_for(&mut self, peer: &PeerId) -> Result<(), QueueError> {
        if self.made.contains(peer) {
            return Ok(());
        }
        let doing = || format!("making the queue's consumer of {peer}");
        let subject = jetstream::create_consumer(peer);
        self.ask::<jetstream::ConsumerInfo>(&subject, &queue::consumer(peer), doing).await?;
        self.made.insert(peer.clone());
        let look = decode::to_json(&PingHints { queue: true });
        // The peer may be offline; it checks the queue when it returns.
        let _ = self.bus.publish(Outgoing::to(&subjects::ping(peer)).payload(look)).await;
        Ok(())
    }

    async fn info(&self, wish: serde_json::Value) -> Result<StreamInfo, QueueError> {
        self.ask(&jetstream::stream_info(), &wish, || "looking at the queue".to_owned()).await
    }

    async fn make(&self, subject: String, config: serde_json::Value) -> Result<StreamInfo, QueueError> {
        self.ask(&subject, &config, || "making the queue".to_owned()).await
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        subject: &str,
        wish: &serde_json::Value,
        doing: impl Fn() -> String,
    ) -> Result<T, QueueError> {
        let question = Outgoing::to(subject).payload(decode::to_json(wish));
        let answer = match self.bus.ask(question, PATIENCE).await {
            Err(BusError::NoResponders(_)) => return Err(QueueError::NoJetStream),
            answer => answer.map_err(QueueError::Bus)?,
        };
        jetstream::answer(&answer.payload).map_err(|why| match &why {
            JetStreamError::Declined(error) if error.err_code == NOT_FOR_ACCOUNT => QueueError::NoJetStream,
            _ => QueueError::Declined { doing: doing(), why },
        })
    }
}

/// The stream's configuration with our settings put right and all others kept; `None` if it is
/// right already.
fn put_right(config: &serde_json::Value) -> Option<serde_json::Value> {
    let mut right = config.clone();
    let fields = right.as_object_mut()?;
    for (key, value) in queue::stream().as_object()? {
        fields.insert(key.clone(), value.clone());
    }
    (right != *config).then_some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_has_set_stays() {
        let mut config = queue::stream();
        assert_eq!(put_right(&config), None);
        config["num_replicas"] = 3.into();
        assert_eq!(put_right(&config), None);
        config["discard"] = "old".into();
        let right = put_right(&config).expect("it is not right");
        assert_eq!((&right["discard"], &right["num_replicas"]), (&"new".into(), &3.into()));
    }
}
