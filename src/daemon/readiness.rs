//! Checks that the server delivers this daemon's messages before it reports ready.

use std::time::Duration;

use super::context::Context;
use peerbus_protocol::subjects;

/// Pause between two looks whether our own subscriptions are there.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long our own answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until a ping of our own comes back: then the server has all our subscriptions.
///
/// # Errors
/// A sentence, where it refused one without which nobody could run anything here.
pub(super) async fn listens(context: &Context) -> Result<(), String> {
    let peer = context.peer();
    let ping = subjects::ping(peer);
    let needed = [subjects::exec(peer), subjects::below_exec(peer), ping.clone()];
    let mut heard = 0;
    // The second time, the refusals have come by that are older than the first answer.
    while heard < 2 {
        if let Some(refusal) = context.bus.refused_to_hear_answers() {
            // Older ones do not understand the rights of identities.
            return Err(format!(
                "the server does not let this daemon hear answers: {refusal}; a fleet with identities wants a \
                 nats-server of version 2.12 or newer"
            ));
        }
        if let Some(refusal) = needed.iter().find_map(|subject| context.bus.refused_to_hear(subject)) {
            return Err(format!(
                "the server does not let this daemon hear what is said to {peer}: {refusal}"
            ));
        }
        match context.bus.request(&ping, bytes::Bytes::new(), PATIENCE).await {
            Ok(_) => heard += 1,
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
    Ok(())
}
