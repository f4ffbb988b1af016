//! The newest account of the fleet: asked for on every connection before anything else is heard there, and
//! taken whenever it is told.
//!
//! Guarantee: a machine that was away while somebody was revoked knows it before it hears a word of theirs,
//! wherever a leader answers within two seconds. Without an answer it goes on with the newest account it has:
//! a leader that is away stops nobody. A person's command believes the account that came with its identity:
//! it speaks with machines that the server lets in, and would burden the leader each time it is run.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::task::JoinSet;

use super::{Incoming, Outgoing, Shared, Signing, message};
use peerbus_protocol::fleet::AccountMessage;
use peerbus_protocol::subjects;

/// How long a leader may take to answer before a machine goes on without.
const PATIENCE: Duration = Duration::from_secs(2);

/// Follows the account on a new connection.
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

/// Takes what was heard, where it is newer and the fleet's own. Anybody may say anything here.
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
