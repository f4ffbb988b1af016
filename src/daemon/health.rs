//! Answering how this peer is, for `d doctor`.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::context::Context;
use super::journal::SPARES;
use super::self_upgrade::UpgradeRecord;
use peerbus_bus::{Incoming, Outgoing};
use peerbus_leader::registry::moved_aside;
use peerbus_process::{host, ownership};
use peerbus_protocol::health::{Containment, Health, TYPE, UpgradeStatus};
use peerbus_protocol::{decode, subjects};

/// Questions that may wait.
pub(super) const WAITING: usize = 64;

/// Answers for as long as it is polled.
pub(super) async fn answer(context: Arc<Context>, mut questions: mpsc::Receiver<Incoming>) {
    while let Some(question) = questions.recv().await {
        let Some(reply) = question.reply.filter(|reply| subjects::is_inbox(reply)) else { continue };
        let about = Arc::clone(&context);
        // A disk may take its time to say how full it is.
        let Ok(health) = tokio::task::spawn_blocking(move || look(&about)).await else { continue };
        // Who asked asks again when this gets lost.
        let _ = context.bus.publish(Outgoing::to(&reply).payload(decode::to_json(&health)).sealed()).await;
    }
}

fn look(context: &Context) -> Health {
    let state_dir = &context.settings.state_dir;
    let space = host::space(state_dir).ok();
    Health {
        kind: TYPE.to_owned(),
        peer_id: context.peer().clone(),
        instance: context.instance,
        daemon_version: peerbus_protocol::VERSION.to_owned(),
        now_ms: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default(),
        user: host::current_user(),
        containment: match context.containment_manager.cgroups() {
            Some(_) => Containment::Cgroup,
            None => Containment::Reaper,
        },
        journal_free: space.map(|space| space.free),
        journal_size: space.map(|space| space.size),
        state_dir_mode: host::mode_of(state_dir).ok(),
        state_dir: state_dir.to_str().map(str::to_owned),
        reserve: context.journal.spares_left().ok().map(|left| (left, SPARES)),
        exposed: ownership::check_for_root(&context.program)
            .err()
            .map(|why| format!("its program {}: {why}", context.program.display())),
        registry_aside: moved_aside(state_dir).map(|file| file.display().to_string()),
        program: context.program.to_str().map(str::to_owned),
        upgrade: UpgradeRecord::read(state_dir).ok().flatten().map(|attempt| UpgradeStatus {
            id: attempt.id,
            version: attempt.version,
            phase: attempt.phase.as_str().to_owned(),
            why: attempt.why,
        }),
    }
}
