//! Jobs queries: to one peer page by page, or to many at once.

use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use tokio::time::timeout_at;

use super::peers::sentence;
use super::policy::PolicyQueryError;
use super::verify;
use peerbus_bus::{Bus, BusError};
use peerbus_protocol::attach::Within;
use peerbus_protocol::jobs::{Job, JobFilter, JobPage, JobQuery, JobStatus, PAGE_MAX, QUERY_TYPE, means};
use peerbus_protocol::reply::ERROR_HEADER;
use peerbus_protocol::{BadMessage, JobId, PeerId, decode, subjects};

/// Timeout of one page: the peer reads its journal.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Peers asked in parallel.
const AT_ONCE: usize = 64;

/// Most bytes of all pages of one peer: several times what its journal can hold.
const PAGES_MOST: usize = 512 << 20;

/// How long the peer holds back each answer while we wait for a job's end. A killed daemon does not
/// answer, so this bounds how late we notice.
const HELD_BACK: Duration = Duration::from_secs(5);

/// Extra time for the answer beyond that.
const HELD_BACK_MARGIN: Duration = Duration::from_secs(3);

/// Most jobs of a chain: more than anyone nests terminals.
const CHAIN_MOST: usize = 64;

/// Pause before retrying a silent peer, and between any two queries.
const PAUSE: Duration = Duration::from_secs(1);

/// Queries one page.
///
/// # Errors
/// If the peer does not answer, or its answer does not match the query.
pub async fn page(
    bus: &Bus,
    peer: &PeerId,
    query: &JobQuery,
    patience: Duration,
) -> Result<JobPage, PolicyQueryError> {
    Ok(sized_page(bus, peer, query, patience).await?.0)
}

/// The same, with its size in bytes.
async fn sized_page(
    bus: &Bus,
    peer: &PeerId,
    query: &JobQuery,
    patience: Duration,
) -> Result<(JobPage, usize), PolicyQueryError> {
    let query = JobQuery { kind: Some(QUERY_TYPE.to_owned()), ..query.clone() };
    let answer = bus.request(&subjects::jobs(peer), decode::to_json(&query).into(), patience).await?;
    verify::is_of(bus, peer, &answer).map_err(PolicyQueryError::Unproven)?;
    if answer.headers.get(ERROR_HEADER).is_some() {
        return Err(PolicyQueryError::Declined(sentence(&answer)));
    }
    let mut page = JobPage::decode(&answer.payload)?;
    check(&page, peer, &query)?;
    if let Some(word) = &query.wanted {
        page.jobs.retain(|job| means(word, job));
    }
    Ok((page, answer.payload.len()))
}

/// Whether a page matches the query; one that was altered, or answers another query, does not.
fn check(page: &JobPage, peer: &PeerId, query: &JobQuery) -> Result<(), BadMessage> {
    let newest = page.jobs.iter().map(|job| job.id).chain(page.next).max();
    if page.peer != *peer {
        return Err(BadMessage(format!("it is about {}", page.peer)));
    }
    match (query.after, newest) {
        (Some(after), Some(newest)) if newest >= after => {
            Err(BadMessage("its pages do not advance".to_owned()))
        }
        _ if page.jobs.is_empty() && page.next.is_some() => {
            Err(BadMessage("a page has no job, and others follow".to_owned()))
        }
        _ => Ok(()),
    }
}

/// All jobs that match a query, newest first, up to its limit.
///
/// # Errors
/// As [`page`]: returns all jobs or an error.
pub async fn all(bus: &Bus, peer: &PeerId, query: &JobQuery) -> Result<Vec<Job>, PolicyQueryError> {
    let most = query.limit.map_or(usize::MAX, |limit| limit as usize);
    let mut query = query.clone();
    let (mut jobs, mut bytes) = (Vec::new(), 0);
    loop {
        // A page holds at most `PAGE_MAX` jobs, even if the caller wants more.
        let left = u32::try_from(most - jobs.len()).unwrap_or(u32::MAX);
        query.limit = query.limit.map(|_| left.min(PAGE_MAX));
        let (page, size) = sized_page(bus, peer, &query, PATIENCE).await?;
        jobs.extend(page.jobs);
        bytes += size;
        if bytes > PAGES_MOST {
            return Err(BadMessage(format!("its list goes on beyond {} MiB", PAGES_MOST >> 20)).into());
        }
        query.after = page.next;
        if query.after.is_none() || jobs.len() >= most {
            jobs.truncate(most);
            return Ok(jobs);
        }
    }
}

/// The same for many peers in parallel, each as soon as it answers.
pub fn of_all<'a>(
    bus: &'a Bus,
    peers: Vec<PeerId>,
    query: &'a JobQuery,
) -> impl Stream<Item = (PeerId, Result<Vec<Job>, PolicyQueryError>)> + 'a {
    stream::iter(peers)
        .map(move |peer| async move {
            let answer = all(bus, &peer, query).await;
            (peer, answer)
        })
        .buffer_unordered(AT_ONCE)
}

/// Progress while waiting for a job's end.
#[derive(Debug)]
pub enum News<'a> {
    /// The peer does not answer: reported once until it answers again.
    NoAnswer(&'a BusError),
    /// The job has not ended; this is its state.
    GoesOn(&'a Job),
}

/// A job and all jobs that display its output, directly or through others, as far as their peers report
/// them within [`PATIENCE`].
pub async fn chain(bus: &Bus, own: Within) -> Vec<Within> {
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut chain = vec![own];
    let mut next = 0;
    while let Some(Within { peer, job }) = chain.get(next).cloned()
        && next < CHAIN_MOST
    {
        next += 1;
        let query = JobQuery { wanted: Some(job.to_string()), ..JobQuery::default() };
        // A silent or older peer must not block the caller.
        let Ok(Ok(page)) = timeout_at(until, page(bus, &peer, &query, PATIENCE)).await else { continue };
        for within in page.jobs.into_iter().flat_map(|job| job.watched_from) {
            if !chain.contains(&within) {
                chain.push(within);
            }
        }
    }
    chain.truncate(CHAIN_MOST);
    chain
}

/// Waits until a job has ended, with no time limit, even across failures of the peer.
///
/// # Errors
/// If the peer declines, or its answer is malformed. Returns `None` if the peer does not know the job.
pub async fn wait(
    bus: &Bus,
    peer: &PeerId,
    job: JobId,
    mut tell: impl FnMut(News<'_>),
) -> Result<Option<Job>, PolicyQueryError> {
    let query = JobQuery {
        wanted: Some(job.to_string()),
        state: JobFilter::All,
        wait_ms: u64::try_from(HELD_BACK.as_millis()).ok(),
        ..JobQuery::default()
    };
    let mut silent = false;
    loop {
        let asked = tokio::time::Instant::now();
        match page(bus, peer, &query, HELD_BACK + HELD_BACK_MARGIN).await {
            Ok(page) => match page.jobs.into_iter().next() {
                Some(job) if job.state != JobStatus::Ended => {
                    silent = false;
                    tell(News::GoesOn(&job));
                }
                found => return Ok(found),
            },
            // Its daemon may be restarting.
            Err(PolicyQueryError::Bus(error)) => {
                if !silent {
                    tell(News::NoAnswer(&error));
                }
                silent = true;
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep_until(asked + PAUSE).await;
    }
}
