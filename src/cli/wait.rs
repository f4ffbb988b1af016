//! `d wait`: until a job has ended, and then its code.

use std::time::Duration;

use clap::Args as ClapArgs;

use super::args::{Common, duration};
use super::connect::{connect, must_see_jobs};
use super::exec::{Next, conclude, unknown};
use super::exit::{Failure, NOT_FOUND, REFUSED, TIMED_OUT, UNKNOWN};
use super::jobs::{Found, Wanted, find, wanted};
use super::output;
use crate::bus::Bus;
use crate::client::exec::{Integrity, Outcome};
use crate::client::jobs;
use crate::client::policy::AskError;
use crate::protocol::Ending;
use crate::protocol::jobs::{Job, State};

/// What `d wait` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d wait 0000cafe && echo it went well\n  d wait vps/build --timeout 10m\n\nIts code is the job's, as of `d exec`. A peer that goes away is waited for, too; nothing happens to the job when\nd is stopped. Exit codes: d help exit-codes"
)]
pub(super) struct Wait {
    /// The job: its id, the last characters of it, or a session's name; PEER/JOB asks one peer
    #[arg(value_name = "JOB", value_parser = wanted)]
    job: Wanted,
    /// Wait no longer than this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// The job as it stands then, as JSON
    #[arg(long)]
    json: bool,
}

/// `d wait`
pub(super) async fn run(common: &Common, args: &Wait) -> Result<u8, Failure> {
    let bus = connect(common).await?;
    must_see_jobs(&bus)?;
    let found = find(&bus, &args.job).await?;
    let ended = until_it_ends(&bus, &found);
    let job = match args.timeout {
        None => ended.await?,
        Some(timeout) => tokio::time::timeout(timeout, ended).await.map_err(|_| {
            let Found { peer, job } = &found;
            let what = format!("timed out: {} on {peer} has not ended within {timeout:?}", job.id.short());
            Failure::new(TIMED_OUT, format!("{what}; it goes on"))
        })??,
    };
    if args.json {
        output::line(&String::from_utf8_lossy(&crate::protocol::decode::to_json(&job)))?;
    }
    let why = "its peer does not say how it ended".to_owned();
    let ending = job.ending.unwrap_or(Ending::Unknown { why });
    if let Ending::Unknown { why } = &ending {
        let next = if job.durable { Next::Read } else { Next::Nothing };
        return unknown(UNKNOWN, (&found.peer, job.id), why, next);
    }
    let outcome = Outcome { ending, result: None, integrity: Integrity::Whole };
    conclude(&found.peer, job.id, &outcome, false, job.durable)
}

async fn until_it_ends(bus: &Bus, found: &Found) -> Result<Job, Failure> {
    let Found { peer, job } = found;
    if job.state == State::Ended {
        return Ok(job.clone());
    }
    let lost = |error: &_| output::say(&format!("no answer from {peer} ({error}); waiting on"));
    match jobs::wait(bus, peer, job.id, lost).await {
        Ok(Some(job)) => Ok(job),
        Ok(None) => {
            let what = format!("not found: {peer} knows {} no more", job.id);
            Err(Failure::new(NOT_FOUND, what))
        }
        Err(error @ AskError::Declined(_)) => Err(Failure::new(REFUSED, format!("refused: {peer}: {error}"))),
        Err(error) => Err(Failure::other(format!("{peer}: {error}"))),
    }
}
