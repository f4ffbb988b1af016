//! `d stop`: stops a job with all its processes, or sends it a signal.

use std::time::Duration;

use clap::Args as ClapArgs;

use super::args::{Common, duration};
use super::connect::{connect, must_see_jobs};
use super::exit::{CliError, NOT_STARTED, OFFLINE, OTHER, REFUSED, TIMED_OUT, UNKNOWN};
use super::jobs::{Found, Wanted, find, wanted};
use super::output;
use peerbus_bus::{Bus, BusError};
use peerbus_client::control::{self, ControlError};
use peerbus_process::Signal;
use peerbus_protocol::Ending;
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::jobs::{Job, JobStatus};

/// Timeout until a signal is delivered.
pub(super) const SIGNAL_WITHIN: Duration = Duration::from_secs(10);

/// What `d stop` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d stop 0000cafe                TERM (HUP in a terminal) to everything it has started, after 5 s KILL; waits for its end\n  d stop vps/build               the session `build` on vps\n  d stop 0000cafe --signal HUP   only that signal\n\nA job that has ended already is said to have, with code 0."
)]
pub(super) struct Stop {
    /// The job: its id, the last characters of it, or a session's name; PEER/JOB asks one peer
    #[arg(value_name = "JOB", value_parser = wanted)]
    job: Wanted,
    /// Send only this signal, such as HUP or USR1
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    signal: Option<Signal>,
    /// Wait this long for its end
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration, conflicts_with = "signal")]
    timeout: Duration,
    /// How it ended, as JSON: one object in one line
    #[arg(long, conflicts_with = "signal")]
    json: bool,
}

fn signal(text: &str) -> Result<Signal, String> {
    text.parse().map_err(|bad: peerbus_process::BadSignal| bad.to_string())
}

/// `d stop`
pub(super) async fn run(common: &Common, args: &Stop) -> Result<u8, CliError> {
    let bus = connect(common).await?;
    must_see_jobs(&bus)?;
    let found = find(&bus, &args.job).await?;
    match args.signal {
        Some(signal) => send(&bus, &found, signal).await,
        None => stop(&bus, &found, args).await,
    }
}

async fn stop(bus: &Bus, found: &Found, args: &Stop) -> Result<u8, CliError> {
    let Found { peer, job } = found;
    let had_ended = job.state == JobStatus::Ended;
    let why = format!("stopped by {}", super::exec::caller());
    let result = control::stop(bus, peer, job.id, &why, args.timeout)
        .await
        .map_err(|error| not_done(found, &error, "may still run"))?;
    if args.json {
        output::json(&super::exec::shown(&result))?;
    } else {
        output::line(&said(found, &result, had_ended))?;
    }
    match (&result.ending, had_ended) {
        (Ending::Unknown { .. }, _) => Ok(UNKNOWN),
        (Ending::NotStarted { .. }, false) => Ok(NOT_STARTED),
        _ => Ok(0),
    }
}

fn said(found: &Found, result: &JobResult, had_ended: bool) -> String {
    let Found { peer, job } = found;
    let (short, ending) = (job.id.short(), &result.ending);
    let verb = if had_ended { "had ended already" } else { "has ended" };
    let killed = match result.forced {
        0 => String::new(),
        forced => format!(", {forced} of its processes had to be killed"),
    };
    let hung =
        super::exec::what_hangs(Some(result)).map_or_else(String::new, |hangs| format!(", but {hangs}"));
    format!("{short} on {peer} {verb}: {ending}{killed}{hung}")
}

async fn send(bus: &Bus, found: &Found, signal: Signal) -> Result<u8, CliError> {
    let Found { peer, job } = found;
    if job.state == JobStatus::Ended {
        return Err(ended_before(found, job));
    }
    match control::signal(bus, peer, job.id, &signal.name(), SIGNAL_WITHIN).await {
        Ok(()) => {
            output::line(&format!("sent {signal} to {} on {peer}", job.id.short()))?;
            Ok(0)
        }
        Err(error) => {
            // A job that has ended meanwhile does not answer.
            let again = wanted(&format!("{peer}/{}", job.id)).map_err(CliError::other)?;
            match find(bus, &again).await {
                Ok(now) if now.job.state == JobStatus::Ended => Err(ended_before(found, &now.job)),
                Ok(now)
                    if now.job.durable && matches!(error, ControlError::Bus(BusError::Timeout { .. })) =>
                {
                    let next = format!(
                        "its shim may be stuck: `d stop {peer}/{}` does not depend on it",
                        job.id.short()
                    );
                    Err(not_done(found, &error, "may or may not have the signal").with_next(&next))
                }
                _ => Err(not_done(found, &error, "may or may not have the signal")),
            }
        }
    }
}

fn ended_before(found: &Found, job: &Job) -> CliError {
    let how = job.ending.as_ref().map_or_else(String::new, |ending| format!(": {ending}"));
    let short = job.id.short();
    CliError::new(OTHER, format!("{short} on {} had ended already{how}; nothing was signalled", found.peer))
}

pub(super) fn not_done(found: &Found, error: &ControlError, so: &str) -> CliError {
    let Found { peer, job } = found;
    let short = job.id.short();
    match error {
        ControlError::Bus(BusError::NoResponders(_)) => {
            CliError::new(OFFLINE, format!("offline: Peer is offline: {peer}: {short} {so}"))
        }
        ControlError::Bus(_) | ControlError::Stopping(_) => {
            let next = format!("`d jobs {peer} -a` shows what became of it");
            CliError::new(TIMED_OUT, format!("timed out: {peer}: {short} {so}: {error}; {next}"))
        }
        ControlError::Declined(_) => CliError::new(REFUSED, format!("refused: {peer}: {short}: {error}")),
        ControlError::Unproven(_) | ControlError::Malformed(_) => {
            CliError::other(format!("{peer}: {short} {so}: {error}"))
        }
    }
}
