//! Clearing away what nobody needs any more: old records, and the cgroups of processes that were left running.

use std::sync::Arc;
use std::time::Duration;

use super::context::Context;

/// How often that is done.
const EVERY: Duration = Duration::from_secs(600);

/// Does it for as long as it is polled.
pub(super) async fn keep(context: Arc<Context>) {
    loop {
        let (journal, nursery) = (context.journal.clone(), context.nursery.clone());
        // A log is told of in its job's record, so that has to last as long.
        let keep_for = context.settings.jobs.keep_for;
        let cleaned = tokio::task::spawn_blocking(move || {
            nursery.sweep();
            journal.prune(keep_for)
        });
        if let Ok(Err(error)) = cleaned.await {
            tracing::warn!(%error, "clearing old records away");
        }
        tokio::time::sleep(EVERY).await;
    }
}
