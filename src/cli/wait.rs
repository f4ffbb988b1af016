//! `d wait`: waits until a job has ended, and returns its exit code.

use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::time::{Instant, sleep, timeout_at};

use super::args::{Common, duration};
use super::connect::{connect, must_see_jobs};
use super::exec::{Next, Streams, conclude, unknown, was_cut};
use super::exit::{CliError, NOT_FOUND, OFFLINE, REFUSED, TIMED_OUT, UNKNOWN};
use super::jobs::{Found, Row, Wanted, find, wanted};
use super::{output, queue};
use peerbus_bus::Bus;
use peerbus_client::exec::{Completion, Integrity};
use peerbus_client::jobs::{self, News};
use peerbus_client::policy::PolicyQueryError;
use peerbus_protocol::Ending;
use peerbus_protocol::jobs::{Job, JobStatus};

/// Poll interval while a job is still in the queue.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What `d wait` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d wait 0000cafe && echo it went well\n  d wait vps/build --timeout 10m\n\nIts code is the job's, as of `d exec`. A peer that goes away is waited for, too, and so is a\njob that waits in the queue for one; nothing happens to the job when\nd is stopped. Exit codes: d help exit-codes"
)]
pub(super) struct Wait {
    /// The job: its id, the last characters of it, or a session's name; PEER/JOB asks one peer
    #[arg(value_name = "JOB", value_parser = wanted)]
    job: Wanted,
    /// Wait no longer than this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// The job as it stands then, as JSON: one object in one line
    #[arg(long)]
    json: bool,
}

/// `d wait`
pub(super) async fn run(common: &Common, args: &Wait) -> Result<u8, CliError> {
    let bus = connect(common).await?;
    must_see_jobs(&bus)?;
    let within = args.timeout.map(|timeout| (Instant::now() + timeout, timeout));
    let found = before(within, begun(&bus, &args.job), |timeout| {
        format!("timed out: {} has not begun within {timeout:?}; it waits on", args.job.word())
    });
    let found = found.await?;
    let ended = before(within, until_it_ends(&bus, &found), |timeout| {
        let Found { peer, job } = &found;
        format!("timed out: {} on {peer} has not ended within {timeout:?}; it goes on", job.id.short())
    });
    let job = ended.await?;
    if args.json {
        output::json(&Row { peer: found.peer.clone(), job: job.clone() })?;
    }
    let why = "its peer does not say how it ended".to_owned();
    let ending = job.ending.unwrap_or(Ending::Unknown { why });
    if let Ending::Unknown { why } = &ending {
        let next = if job.durable { Next::Read } else { Next::Ask };
        return unknown(UNKNOWN, (&found.peer, job.id), why, next);
    }
    if let Some(failure) = job.output_cut.as_deref().and_then(|cut| was_cut(cut, &ending)) {
        return Err(failure);
    }
    let outcome = Completion { ending, result: None, integrity: Integrity::Whole };
    conclude(&found.peer, job.id, &outcome, &Streams::default(), job.durable)
}

/// Runs a future with a deadline.
async fn before<T>(
    within: Option<(Instant, Duration)>,
    work: impl Future<Output = Result<T, CliError>>,
    late: impl Fn(Duration) -> String,
) -> Result<T, CliError> {
    let Some((deadline, timeout)) = within else { return work.await };
    match timeout_at(deadline, work).await {
        Ok(done) => done,
        Err(_) => Err(CliError::new(TIMED_OUT, late(timeout))),
    }
}

/// Finds the job; waits until its peer has taken it from the queue.
async fn begun(bus: &Bus, meant: &Wanted) -> Result<Found, CliError> {
    let unknown = match find(bus, meant).await {
        Err(unknown) if matches!(unknown.code, NOT_FOUND | OFFLINE) => unknown,
        found => return found,
    };
    let Some((peer, job)) = queue::the_one_that_waits(bus, meant).await else { return Err(unknown) };
    output::say(&format!("{} waits in the queue for {peer}; waiting on", job.short()));
    while queue::waits(bus, &peer, job).await? {
        sleep(LOOK_AGAIN).await;
    }
    let there = wanted(&format!("{peer}/{job}")).map_err(CliError::other)?;
    let mut said = false;
    loop {
        match find(bus, &there).await {
            Err(why) if why.code == NOT_FOUND => {
                let what =
                    format!("not found: {job} waits in the queue no more, and {peer} does not know it");
                return Err(CliError::new(NOT_FOUND, format!("{what}: it was cancelled, or it is lost")));
            }
            Err(why) if matches!(why.code, OFFLINE | TIMED_OUT) => {
                if !said {
                    output::say(&format!(
                        "{} was taken by {peer} or cancelled, and {peer} does not answer; waiting on",
                        job.short()
                    ));
                    said = true;
                }
                sleep(LOOK_AGAIN).await;
            }
            found => return found,
        }
    }
}

async fn until_it_ends(bus: &Bus, found: &Found) -> Result<Job, CliError> {
    let Found { peer, job } = found;
    if job.state == JobStatus::Ended {
        return Ok(job.clone());
    }
    let mut waits_for_disk = None;
    let mut tell_of_disk = |job: &Job| {
        if waits_for_disk != job.waits_for_disk {
            let short = job.id.short();
            output::say(&match &job.waits_for_disk {
                Some(why) => format!("{short} waits for room on the disk of {peer} ({why}); waiting on"),
                None => format!("{short} goes on: it no longer waits for room on the disk of {peer}"),
            });
            waits_for_disk.clone_from(&job.waits_for_disk);
        }
    };
    tell_of_disk(job);
    let tell = |news: News<'_>| match news {
        News::NoAnswer(error) => output::say(&format!("no answer from {peer} ({error}); waiting on")),
        News::GoesOn(job) => tell_of_disk(job),
    };
    match jobs::wait(bus, peer, job.id, tell).await {
        Ok(Some(job)) => Ok(job),
        Ok(None) => {
            let what = format!("not found: {peer} knows {} no more", job.id);
            Err(CliError::new(NOT_FOUND, what))
        }
        Err(error @ PolicyQueryError::Declined(_)) => {
            Err(CliError::new(REFUSED, format!("refused: {peer}: {error}")))
        }
        Err(error) => Err(CliError::other(format!("{peer}: {error}"))),
    }
}
