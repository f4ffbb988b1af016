//! Asking peers for their jobs: one peer page by page, or many at once.

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

/// How long a peer may take for one page: it reads its journal.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Peers that are asked at once.
const AT_ONCE: usize = 64;

/// Most that all the pages of one peer take, in bytes: several times what its journal can remember.
const PAGES_MOST: usize = 512 << 20;

/// How long an answer is held back at a time while an end is waited for. A daemon that is killed answers nothing,
/// so this is how late that is noticed.
const HELD_BACK: Duration = Duration::from_secs(5);

/// How long it may take beyond that.
const HELD_BACK_MARGIN: Duration = Duration::from_secs(3);

/// Most jobs of a chain: nobody sits in more terminals within each other.
const CHAIN_MOST: usize = 64;

/// Pause before a peer that gave no answer is asked again, and between two questions of any kind.
const PAUSE: Duration = Duration::from_secs(1);

/// One page.
///
/// # Errors
/// When the peer gives no answer, or one that is none to this question.
pub async fn page(
    bus: &Bus,
    peer: &PeerId,
    query: &JobQuery,
    patience: Duration,
) -> Result<JobPage, PolicyQueryError> {
    Ok(sized_page(bus, peer, query, patience).await?.0)
}

/// The same with its size in bytes.
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

/// Whether a page can be the answer: one that was changed on its way, or of another question, is none.
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

/// All jobs that a question asks for, newest first; at most as many as its limit says.
///
/// # Errors
/// As [`page`]: all of them, or an error.
pub async fn all(bus: &Bus, peer: &PeerId, query: &JobQuery) -> Result<Vec<Job>, PolicyQueryError> {
    let most = query.limit.map_or(usize::MAX, |limit| limit as usize);
    let mut query = query.clone();
    let (mut jobs, mut bytes) = (Vec::new(), 0);
    loop {
        // However many are wanted, a page has no more than it has.
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

/// The same of many peers at once, each as soon as it has answered.
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

/// What is to be told of a job whose end is waited for.
#[derive(Debug)]
pub enum News<'a> {
    /// Its peer gives no answer: told once until it does again.
    NoAnswer(&'a BusError),
    /// It has not ended, and stands like this.
    GoesOn(&'a Job),
}

/// A job, and those from within which it is followed, over however many others: what any of these prints shows what that
/// job prints. As far as their peers say so within [`PATIENCE`].
pub async fn chain(bus: &Bus, own: Within) -> Vec<Within> {
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut chain = vec![own];
    let mut next = 0;
    while let Some(Within { peer, job }) = chain.get(next).cloned()
        && next < CHAIN_MOST
    {
        next += 1;
        let query = JobQuery { wanted: Some(job.to_string()), ..JobQuery::default() };
        // A peer that cannot be asked, or an older one, does not keep anybody from looking.
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

/// Waits until a job has ended, however long that takes and whatever becomes of the peer meanwhile.
///
/// # Errors
/// When the peer declines, or its answers cannot be understood; none where it does not know the job.
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
            // It may be on its way back.
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
