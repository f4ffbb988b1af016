//! Follows the fleet's account JWT: requests it on every new connection before other subscriptions
//! start, and accepts every announced update.
//!
//! Guarantee: if a leader answers within two seconds, a reconnecting machine knows about new
//! revocations before it receives any message of a revoked member. Without an answer it continues with
//! its newest account, so a missing leader blocks no one. The command line skips this and uses the
//! account stored with its identity: the server already filters whom it talks to, and each run would
//! cost the leader a request.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::task::JoinSet;

use super::{Incoming, Outgoing, Shared, Signing, message};
use peerbus_protocol::fleet::AccountMessage;
use peerbus_protocol::subjects;

/// How long a machine waits for a leader before it continues without an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Starts to follow the account on a new connection.
pub(super) async fn follow(
    shared: &Arc<Shared>,
    client: &async_nats::Client,
    tasks: &mut JoinSet<()>,
) -> Result<(), String> {
    let Some(member) = shared.member.clone() else { return Ok(()) };
    if !member.own().standing.is_machine() {
        return Ok(());
    }
    let changes = client.subscribe(subjects::ACCOUNT_CHANGED).await.map_err(|error| error.to_string())?;
    tasks.spawn(hear(Arc::clone(shared), member.clone(), changes));
    ask(shared, client, &member).await;
    Ok(())
}

async fn ask(shared: &Shared, client: &async_nats::Client, member: &Signing) {
    let mut answers = shared.inbox.open();
    let question = member.sealed(Outgoing::to(subjects::ACCOUNT).reply(answers.subject()));
    if message::publish(client, question).await.is_err() {
        return;
    }
    match tokio::time::timeout(PATIENCE, answers.next()).await {
        Ok(answer) => learn(shared, member, &answer),
        Err(_) => tracing::debug!("nobody answered for the fleet's account; going on with the one known"),
    }
}

async fn hear(shared: Arc<Shared>, member: Signing, mut changes: async_nats::Subscriber) {
    while let Some(change) = changes.next().await {
        learn(&shared, &member, &message::incoming(change));
    }
}

/// Accepts a received account if it is newer and signed by the fleet. Anyone may publish here.
fn learn(shared: &Shared, member: &Signing, heard: &Incoming) {
    if heard.no_responders {
        return;
    }
    let account = match AccountMessage::decode(&heard.payload) {
        Ok(message) => message.account,
        Err(bad) => return tracing::debug!(why = bad.0, "ignored what is no account of the fleet"),
    };
    match member.trust().learn(&account) {
        Ok(true) => shared.account.send_modify(|learnt| *learnt += 1),
        Ok(false) => {}
        Err(bad) => tracing::warn!(%bad, "ignored an account of the fleet"),
    }
}
