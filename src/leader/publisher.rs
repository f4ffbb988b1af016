//! What the leader says, in tasks of their own: a link that takes nothing for a while delays an
//! answer, but never the leader itself.
//!
//! Limits: events are dropped, and counted, when more wait than there are peers in a large fleet;
//! a call is dropped when too many wait, as its peer beats by itself soon.

use std::time::Duration;

use tokio::sync::mpsc::{self, OwnedPermit};

use peerbus_bus::{Bus, Incoming, Outgoing};
use peerbus_protocol::peers::{EVENT_TYPE, PeerEvent};
use peerbus_protocol::reply::{ERROR_CODE_HEADER, ERROR_HEADER};
use peerbus_protocol::{Instance, PeerId, decode, service, subjects};

use super::query::Refusal;
use super::roster::Change;

/// Header of every answer: the leader that gives it.
pub(super) const LEADER_HEADER: &str = "D-Leader";
/// Header of every answer: the leader's instance.
pub(super) const INSTANCE_HEADER: &str = "D-Instance";

/// Answers that may wait. No question is taken while there is no place for its answer.
const ANSWERS_MAX: usize = 64;

/// Events that may wait: more than every peer of a large fleet changing at once, twice.
const EVENTS_MAX: usize = 65_536;

/// Calls that may wait: the same.
const CALLS_MAX: usize = 65_536;

/// Time between two calls: at most a thousand a second, so that the answers come spread too.
const CALL_PACE: Duration = Duration::from_millis(1);

/// Who is asked for a sign of life.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// Whoever is on the bus; answered with a service document.
    Everyone,
    /// One peer; answered with a heartbeat.
    Peer(PeerId),
}

/// Where answers to calls go.
pub(super) struct ReplyTo {
    /// Service documents.
    pub(super) documents: String,
    /// Heartbeats.
    pub(super) heartbeats: String,
}

/// The leader's mouth.
pub(super) struct Publisher {
    leader: PeerId,
    instance: Instance,
    answers: mpsc::Sender<Outgoing>,
    events: mpsc::Sender<Outgoing>,
    calls: mpsc::Sender<Probe>,
}

impl Publisher {
    /// Starts the tasks that speak; they end when this is dropped and all was said.
    pub(super) fn open(bus: &Bus, leader: PeerId, instance: Instance, reply: ReplyTo) -> Self {
        let (answers, answers_out) = mpsc::channel(ANSWERS_MAX);
        let (events, events_out) = mpsc::channel(EVENTS_MAX);
        let (calls, calls_out) = mpsc::channel(CALLS_MAX);
        tokio::spawn(say_answers(bus.clone(), answers_out));
        tokio::spawn(say_events(bus.clone(), events_out));
        tokio::spawn(call(bus.clone(), calls_out, reply));
        Self { leader, instance, answers, events, calls }
    }

    /// Where answers are handed in, for whoever waits for a place.
    pub(super) fn answers(&self) -> mpsc::Sender<Outgoing> {
        self.answers.clone()
    }

    /// Answers a message, if it gives an inbox.
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

    /// Refuses a message, if it gives an inbox and there is a place.
    pub(super) fn refuse(&self, asked: &Incoming, refusal: Refusal) {
        if let Some(message) = self.letter(asked, Err(refusal)) {
            // Garbage that comes faster than refusals leave is not worth more.
            let _ = self.answers.try_send(message);
        }
    }

    /// Tells of a change; false when too many wait.
    pub(super) fn tell(&self, change: Change, at: String) -> bool {
        let Change { kind: event, peer: peer_id, why } = change;
        let subject = subjects::event(event, &peer_id);
        let event = PeerEvent { kind: EVENT_TYPE.to_owned(), event, peer_id, at, why };
        self.events.try_send(Outgoing::to(&subject).payload(decode::to_json(&event)).sealed()).is_ok()
    }

    /// Asks for a sign of life.
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
        // While there is no link all calls fail at once; the next link begins with new ones.
        if bus.publish(message).await.is_ok() {
            tokio::time::sleep(CALL_PACE).await;
        }
    }
}
