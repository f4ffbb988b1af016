//! `d daemon stop`: stops exactly the daemon that holds the state directory, and waits until it has
//! exited.

use std::path::Path;
use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::time::{Instant, sleep, timeout};

use super::locate::{self, LocatedDaemon, Running, refuse_inside_own_job};
use super::start::{StartLock, directory_of};
use super::unit::Unit;
use crate::args::{Common, duration};
use crate::exit::CliError;
use crate::output;
use peerbus_daemon::{orphans, recover_after};
use peerbus_process::Signal;
use peerbus_protocol::ending::with_causes;

/// Timeout until a killed daemon is gone.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// Poll interval for a starting daemon, until it can be stopped.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What `d daemon stop` is given.
#[derive(Debug, ClapArgs)]
pub(crate) struct Stop {
    /// How long it may take: its jobs get 5 seconds to end, and are stopped then
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Kill it when that time is over, and then what is left of its jobs; and durable jobs whose shims do not answer
    #[arg(long)]
    force: bool,
}

/// How to stop a daemon.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) timeout: Duration,
    pub(super) force: bool,
}

/// `d daemon stop`
pub(super) async fn run(common: &Common, args: &Stop) -> Result<u8, CliError> {
    let directory = directory_of(common)?;
    refuse_inside_own_job(&directory, "stop")?;
    let unit = Unit::installed()?;
    let running = match (locate::look(&directory), &unit) {
        (Ok(LocatedDaemon::Not(_)), None) => one_that_starts(&directory, args.timeout).await?,
        (Ok(LocatedDaemon::Not(_)), Some(_)) => None,
        (Ok(LocatedDaemon::Runs(running)), _) => Some(running),
        // The directory may be another user's, with that user's unit.
        (Err(_), Some(_)) => None,
        (Err(failure), None) => return Err(failure),
    };
    let line = match (unit, running) {
        (Some(unit), running) if unit.is_active() && unit.runs(running.as_ref()) => unit.stop()?,
        (_, Some(running)) => {
            let patience = Patience { timeout: args.timeout, force: args.force };
            stop(&directory, running, patience).await?
        }
        (_, None) => {
            output::say(&format!("no daemon runs on {}", directory.display()));
            return Ok(0);
        }
    };
    output::line(&line)?;
    Ok(0)
}

/// Waits for a daemon that a concurrent `d daemon start` is starting.
async fn one_that_starts(directory: &Path, within: Duration) -> Result<Option<Running>, CliError> {
    let deadline = Instant::now() + within;
    loop {
        // In this order: after the start is over, the daemon is visible if there is one.
        let starts = StartLock::is_taken(directory);
        match locate::look(directory)? {
            LocatedDaemon::Runs(running) => return Ok(Some(running)),
            LocatedDaemon::Not(_) if !starts || Instant::now() >= deadline => return Ok(None),
            LocatedDaemon::Not(_) => sleep(LOOK_AGAIN).await,
        }
    }
}

/// Stops it; returns what was stopped.
pub(super) async fn stop(directory: &Path, running: Running, patience: Patience) -> Result<String, CliError> {
    let Patience { timeout: within, force } = patience;
    let pid = running.pid();
    let stopped = format!("stopped {}", running.facts());
    signal(&running, Signal::TERM)?;
    if has_ended(&running, within).await? {
        return if force { Ok(stopped + &silent_shims(directory).await?) } else { Ok(stopped) };
    }
    if !force {
        return Err(CliError::other(format!(
            "the daemon still runs as process {pid}, {within:?} after it was asked to stop ({}); `d daemon stop --force` \
             kills it",
            running.doing()
        )));
    }
    signal(&running, Signal::KILL)?;
    if !has_ended(&running, KILLED_WITHIN).await? {
        let why = "the kernel has not let go of it";
        return Err(CliError::other(format!(
            "the daemon, process {pid}, was killed and is still there: {why}"
        )));
    }
    clear_up(directory, &running).await?;
    Ok(format!("killed {}{}", running.facts(), silent_shims(directory).await?))
}

/// Stops jobs whose shims do not answer, since nothing could stop them later. Returns one line for
/// each.
async fn silent_shims(directory: &Path) -> Result<String, CliError> {
    let failed = |error| CliError::other(format!("looking for shims that do not answer: {error:#}"));
    let stopped = orphans::stop_silent(directory).await.map_err(failed)?;
    let said = stopped.into_iter().map(|(orphan, stopped)| match stopped {
        Ok(count) => format!("\nstopped {}: {}; {count} processes", orphan.job, orphan.why),
        Err(error) => format!("\n{}: {}; {error}", orphan.job, orphan.why),
    });
    Ok(said.collect())
}

fn signal(running: &Running, signal: Signal) -> Result<(), CliError> {
    running
        .process
        .signal(signal)
        .map_err(|error| CliError::other(format!("stopping the daemon, process {}: {error}", running.pid())))
}

async fn has_ended(running: &Running, within: Duration) -> Result<bool, CliError> {
    match timeout(within, running.process.ended()).await {
        Ok(ended) => ended.map(|()| true).map_err(|error| CliError::other(format!("waiting: {error}"))),
        Err(_) => Ok(false),
    }
}

/// Kills leftovers of a killed daemon's jobs, as the next daemon would.
async fn clear_up(directory: &Path, running: &Running) -> Result<(), CliError> {
    let Some(state) = &running.state else { return Ok(()) };
    recover_after(directory, &state.peer_id).await.map_err(|error| {
        let why = with_causes(error.as_ref());
        CliError::other(format!("the daemon was killed; stopping its jobs: {why}"))
    })
}
