//! Answering the NATS services API, so that `nats micro ls` shows the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::context::Context;
use super::heartbeat::HeartbeatSource;
use peerbus_bus::{Incoming, Outgoing};
use peerbus_protocol::service::{self, ServiceIdentity};
use peerbus_protocol::{decode, subjects};

/// Questions that may wait.
const WAITING: usize = 1024;

/// Subscribes to the questions.
pub(super) async fn questions(context: &Context) -> [mpsc::Receiver<Incoming>; 3] {
    let [all, exec, own] = service::question_subjects(context.instance);
    let bus = &context.bus;
    [
        bus.subscribe(&all, None, WAITING).await,
        bus.subscribe(&exec, None, WAITING).await,
        bus.subscribe(&own, None, WAITING).await,
    ]
}

/// Answers for as long as it is polled.
pub(super) async fn answer(
    context: Arc<Context>,
    pulse: Arc<HeartbeatSource>,
    questions: [mpsc::Receiver<Incoming>; 3],
) {
    let started = super::journal::now();
    let [mut all, mut exec, mut own] = questions;
    loop {
        let message = tokio::select! {
            Some(message) = all.recv() => message,
            Some(message) = exec.recv() => message,
            Some(message) = own.recv() => message,
            else => return,
        };
        let Some(question) = service::question(&message.subject, context.instance) else { continue };
        let Some(reply) = message.reply.filter(|reply| subjects::is_inbox(reply)) else { continue };
        let identity = identity(&context, &pulse, &started).await;
        let document = service::answer(question, &identity, &context.counts());
        // Who asked asks again when this gets lost.
        let _ = context.bus.publish(Outgoing::to(&reply).payload(decode::to_json(&document)).sealed()).await;
    }
}

async fn identity(context: &Context, pulse: &HeartbeatSource, started: &str) -> ServiceIdentity {
    let beat = pulse.look().await;
    let mut metadata = BTreeMap::from([
        ("peer".to_owned(), beat.peer_id.to_string()),
        ("hostname".to_owned(), beat.hostname),
        ("os".to_owned(), beat.os),
        ("arch".to_owned(), beat.arch),
        ("role".to_owned(), beat.role.as_str().to_owned()),
        ("version".to_owned(), beat.daemon_version.clone()),
    ]);
    metadata.extend(beat.ip_address.map(|ip| ("ip_address".to_owned(), ip)));
    ServiceIdentity {
        peer: context.peer().clone(),
        instance: context.instance,
        version: beat.daemon_version,
        started: started.to_owned(),
        metadata,
    }
}
