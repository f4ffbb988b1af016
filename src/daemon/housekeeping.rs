//! Clearing away what nobody needs any more: old records, the output of jobs that ended long ago, and the
//! cgroups of processes that were left running; and filling up the journal's reserve.

use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::durable;

/// How often that is done.
const EVERY: Duration = Duration::from_secs(600);

/// How soon it is tried again to fill up the journal's reserve for a full disk.
const RESTOCK_EVERY: Duration = Duration::from_secs(5);

/// How soon again, when a durable job has ended meanwhile: its output may be too much.
const SOON: Duration = Duration::from_secs(5);

/// Does it for as long as it is polled.
pub(super) async fn keep(context: Arc<Context>) {
    loop {
        let about = Arc::clone(&context);
        // Whatever it was that failed was said there; the rest is tried all the same.
        if let Err(panic) = tokio::task::spawn_blocking(move || clean(&about)).await {
            tracing::error!(%panic, "clearing away failed inside the daemon");
        }
        restock(&context).await;
        tokio::time::sleep(SOON).await;
        // Rung meanwhile is rung.
        let rung = tokio::time::timeout(EVERY, context.tidy.notified());
        tokio::pin!(rung);
        loop {
            tokio::select! {
                _ = &mut rung => break,
                () = context.journal.spares_are_missing() => {
                    tokio::time::sleep(RESTOCK_EVERY).await;
                    restock(&context).await;
                }
            }
        }
    }
}

/// While the disk is full that is tried again and again.
async fn restock(context: &Arc<Context>) {
    let journal = context.journal.clone();
    let restocked = tokio::task::spawn_blocking(move || journal.restock()).await;
    if let Err(error) = restocked.map_err(std::io::Error::other).flatten() {
        tracing::warn!(%error, "filling up the journal's reserve for a full disk");
    }
}

fn clean(context: &Context) {
    let limits = &context.settings.jobs;
    context.containment_manager.sweep();
    // The journal knows how a job ended for as long as its output is kept.
    if let Err(error) = context.journal.prune(limits.keep_for) {
        tracing::warn!(%error, "clearing old records away");
    }
    if let Err(error) = durable::retain(&context.settings.state_dir, &context.journal, limits) {
        tracing::warn!(%error, "clearing the output of ended jobs away");
    }
}
