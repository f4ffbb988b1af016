//! Publishes answers, events and heartbeat requests from tasks of their own, so that a stalled
//! connection delays an answer but never the leader itself.
//!
//! Limits: events are dropped and counted if more are queued than a large fleet has peers. A
//! heartbeat request is dropped if too many are queued, since the peer soon sends a heartbeat
//! anyway.

use std::time::Duration;

use tokio::sync::mpsc::{self, OwnedPermit};

use peerbus_bus::{Bus, Incoming, Outgoing};
use peerbus_protocol::peers::{EVENT_TYPE, PeerEvent};
use peerbus_protocol::reply::{ERROR_CODE_HEADER, ERROR_HEADER};
use peerbus_protocol::{Instance, PeerId, decode, service, subjects};

use super::query::Refusal;
use super::roster::Change;

/// Header of every answer: the peer id of the leader.
pub(super) const LEADER_HEADER: &str = "D-Leader";
/// Header of every answer: the leader's instance.
pub(super) const INSTANCE_HEADER: &str = "D-Instance";

/// Most queued answers. A query is taken only when there is room for its answer.
const ANSWERS_MAX: usize = 64;

/// Most queued events: enough for every peer of a large fleet to change twice at once.
const EVENTS_MAX: usize = 65_536;

/// Most queued requests: the same.
const CALLS_MAX: usize = 65_536;

/// Pause between two requests: at most a thousand a second, which also spreads the answers.
const CALL_PACE: Duration = Duration::from_millis(1);

/// The recipient of a heartbeat request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// Every peer; each answers with a service document.
    Everyone,
    /// One peer; answered with a heartbeat.
    Peer(PeerId),
}

/// The inboxes for answers to heartbeat requests.
pub(super) struct ReplyTo {
    /// Service documents.
    pub(super) documents: String,
    /// Heartbeats.
    pub(super) heartbeats: String,
}

/// Sends the leader's messages.
pub(super) struct Publisher {
    leader: PeerId,
    instance: Instance,
    answers: mpsc::Sender<Outgoing>,
    events: mpsc::Sender<Outgoing>,
    calls: mpsc::Sender<Probe>,
}

impl Publisher {
    /// Starts the sending tasks. They end after this is dropped and their queues are empty.
    pub(super) fn open(bus: &Bus, leader: PeerId, instance: Instance, reply: ReplyTo) -> Self {
        let (answers, answers_out) = mpsc::channel(ANSWERS_MAX);
        let (events, events_out) = mpsc::channel(EVENTS_MAX);
        let (calls, calls_out) = mpsc::channel(CALLS_MAX);
        tokio::spawn(say_answers(bus.clone(), answers_out));
        tokio::spawn(say_events(bus.clone(), events_out));
        tokio::spawn(call(bus.clone(), calls_out, reply));
        Self { leader, instance, answers, events, calls }
    }

    /// The queue for answers, for reserving room in it.
    pub(super) fn answers(&self) -> mpsc::Sender<Outgoing> {
        self.answers.clone()
    }

    /// Answers a message that has a reply inbox.
    pub(super) fn answer(
        &self,
        place: OwnedPermit<Outgoing>,
        asked: &Incoming,
        answer: Result<Vec<u8>, Refusal>,
    ) {
        if let Some(message) = self.letter(asked, answer) {
            place.send(message);
        }
    }

    /// Sends an error for a message that has a reply inbox, if there is room.
    pub(super) fn refuse(&self, asked: &Incoming, refusal: Refusal) {
        if let Some(message) = self.letter(asked, Err(refusal)) {
            // Under a flood of invalid messages, some get no answer.
            let _ = self.answers.try_send(message);
        }
    }

    /// Publishes a change; false if too many events are queued.
    pub(super) fn tell(&self, change: Change, at: String) -> bool {
        let Change { kind: event, peer: peer_id, why } = change;
        let subject = subjects::event(event, &peer_id);
        let event = PeerEvent { kind: EVENT_TYPE.to_owned(), event, peer_id, at, why };
        self.events.try_send(Outgoing::to(&subject).payload(decode::to_json(&event)).sealed()).is_ok()
    }

    /// Requests a heartbeat.
    pub(super) fn call(&self, whom: Probe) {
        let _ = self.calls.try_send(whom);
    }

    fn letter(&self, asked: &Incoming, answer: Result<Vec<u8>, Refusal>) -> Option<Outgoing> {
        let reply = asked.reply.as_deref().filter(|reply| subjects::is_inbox(reply))?;
        let message = Outgoing::to(reply)
            .sealed()
            .header(LEADER_HEADER, &self.leader)
            .header(INSTANCE_HEADER, self.instance);
        Some(match answer {
            Ok(body) => message.payload(body),
            Err(refusal) => message
                .header(ERROR_HEADER, refusal.word)
                .header(ERROR_CODE_HEADER, refusal.code)
                .payload(refusal.body()),
        })
    }
}

async fn say_answers(bus: Bus, mut answers: mpsc::Receiver<Outgoing>) {
    while let Some(answer) = answers.recv().await {
        if let Err(error) = bus.publish_bulk(answer).await {
            tracing::debug!(%error, "an answer was not sent");
        }
    }
}

async fn say_events(bus: Bus, mut events: mpsc::Receiver<Outgoing>) {
    while let Some(event) = events.recv().await {
        if let Err(error) = bus.publish(event).await {
            tracing::debug!(%error, "an event was not sent");
        }
    }
}

async fn call(bus: Bus, mut calls: mpsc::Receiver<Probe>, reply: ReplyTo) {
    while let Some(call) = calls.recv().await {
        let message = match call {
            Probe::Everyone => Outgoing::to(service::PING_ALL).reply(&reply.documents),
            Probe::Peer(peer) => Outgoing::to(&subjects::ping(&peer)).reply(&reply.heartbeats),
        };
        // Without a connection all requests fail at once; the next connection brings new ones.
        if bus.publish(message).await.is_ok() {
            tokio::time::sleep(CALL_PACE).await;
        }
    }
}
