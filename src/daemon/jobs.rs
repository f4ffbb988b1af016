//! Answers job listings on `exec.<peer>.jobs`: running jobs from memory, all others from the journal.
//!
//! A query reads the names of all records, and the records of its page, on the blocking thread pool. A client that
//! waits for an ending gets its answer once the journal has it. A daemon that ends does not answer; the client asks
//! the next one.

mod listing;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};

use super::answer::{UNPROVEN, cannot};
use super::auth;
use super::context::Context;
use super::policy::may_see_all;
use peerbus_bus::{BusError, Incoming, Outgoing};
use peerbus_protocol::jobs::{JobPage, JobQuery, PAGE_TYPE, WAIT_MAX_MS};
use peerbus_protocol::{JobId, decode, subjects};

/// Queries that may wait.
pub(super) const WAITING: usize = 256;

/// Queries processed at once.
const AT_ONCE: usize = 8;

/// Queries that may wait for an ending at once. Further ones are answered immediately.
const HELD_BACK: usize = 1_024;

/// Upper bound of a page's bytes that are not jobs.
const FRAME: usize = 1_024;

/// Answers while it is polled.
pub(super) async fn answer(context: Arc<Context>, mut questions: mpsc::Receiver<Incoming>) {
    let (looking, waiting) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Semaphore::new(HELD_BACK)));
    while let Some(question) = questions.recv().await {
        let Some(reply) = question.reply.clone().filter(|reply| subjects::is_inbox(reply)) else { continue };
        let query = match asked(&context, &question) {
            Ok(query) => query,
            Err((word, code, why)) => {
                cannot(&context, &reply, word, code, &why).await;
                continue;
            }
        };
        let held =
            held_back(&query).and_then(|held| Some((held, Arc::clone(&waiting).try_acquire_owned().ok()?)));
        // Who can be answered at once has its turn here, so that a flood of questions waits outside.
        let turn = if held.is_some() { None } else { Arc::clone(&looking).acquire_owned().await.ok() };
        let (context, looking) = (Arc::clone(&context), Arc::clone(&looking));
        tokio::spawn(async move {
            let mut turn = turn;
            if let Some(((job, patience), _place)) = held {
                // A timeout is answered, too.
                let _ = tokio::time::timeout(patience, context.running_jobs.left(job)).await;
                turn = looking.acquire_owned().await.ok();
            }
            one(&context, &reply, query).await;
            drop(turn);
        });
    }
}

/// Parses and authorizes a query.
fn asked(context: &Context, question: &Incoming) -> Result<JobQuery, (&'static str, u16, String)> {
    let (principal, _) = auth::of(context, question).map_err(|why| (UNPROVEN.0, UNPROVEN.1, why))?;
    if !may_see_all(&principal) {
        return Err(("not_yours", 403, format!("only operators may see the jobs, and {principal} is none")));
    }
    JobQuery::decode(&question.payload).map_err(|bad| ("bad_request", 400, decode::readable(&bad.0)))
}

/// The job whose ending the query waits for, and the timeout.
fn held_back(query: &JobQuery) -> Option<(JobId, Duration)> {
    let job = query.wanted.as_deref()?.parse().ok()?;
    Some((job, Duration::from_millis(query.wait_ms?.min(WAIT_MAX_MS))))
}

async fn one(context: &Arc<Context>, reply: &str, query: JobQuery) {
    let room = context.bus.max_payload().saturating_sub(FRAME);
    let looking = Arc::clone(context);
    let found = tokio::task::spawn_blocking(move || listing::page(&looking, &query, room)).await;
    let (jobs, next) = match found.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, "reading the journal for a list of jobs");
            return cannot(context, reply, "journal", 500, &format!("the journal cannot be read: {error}"))
                .await;
        }
    };
    let (peer, instance) = (context.peer().clone(), context.instance);
    let page = JobPage { kind: PAGE_TYPE.to_owned(), peer, instance, jobs, next };
    // If the answer is lost, the client retries.
    let sent = context.bus.publish(Outgoing::to(reply).payload(decode::to_json(&page)).sealed()).await;
    if let Err(error @ BusError::TooLarge { .. }) = sent {
        cannot(context, reply, "journal", 500, &format!("a job does not fit into a message: {error}")).await;
    }
}
