//! `d daemon restart`, and making a daemon run with the current settings.
//!
//! The new daemon gets the current flags, environment and file, not the old daemon's settings. An
//! invalid setting is found before the old daemon is stopped.

use std::path::Path;
use std::time::Duration;

use clap::Args as ClapArgs;

use super::locate::{self, LocatedDaemon, Running, refuse_inside_own_job};
use super::run::{Flags, gather};
use super::start::{Start, StartLock, Started, ready, refuse_flags, start_detached};
use super::stop::{Patience, stop};
use super::unit::Unit;
use crate::args::{Common, duration};
use crate::exit::CliError;
use crate::output;
use crate::settings::Settings;
use peerbus_daemon as daemon;

/// Default timeout until a daemon is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Default timeout until the old daemon has stopped.
const STOP_PATIENCE: Patience = Patience { timeout: Duration::from_secs(30), force: false };

/// What `d daemon restart` is given.
#[derive(Debug, ClapArgs)]
pub(crate) struct Restart {
    #[command(flatten)]
    start: Start,
    /// How long the old daemon may take to stop
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Kill the old daemon when that time is over
    #[arg(long)]
    force: bool,
    /// Leave a daemon alone that has the peer id, role and bus that are wanted
    #[arg(long)]
    if_needed: bool,
}

/// `d daemon restart`
pub(super) async fn run(common: &Common, args: Restart) -> Result<u8, CliError> {
    let Restart { start: Start { flags, ready_timeout }, timeout, force, if_needed } = args;
    let patience = Patience { timeout, force };
    if Unit::installed()?.is_some() {
        refuse_flags(common, &flags)?;
    }
    let started = renewed(common, flags, ready_timeout, patience, if_needed).await?;
    output::line(&started.line("restarted"))?;
    Ok(0)
}

/// Makes a daemon run with the current settings: starts one if none runs, and restarts one with
/// another peer id, role or bus. Refuses to restart a daemon in a user's terminal. Returns when it
/// is ready.
pub(crate) async fn ensure_running(common: &Common) -> Result<(), CliError> {
    leave_to_its_terminal(common)?;
    renewed(common, Flags::default(), READY_WITHIN, STOP_PATIENCE, true).await.map(drop)
}

/// Like [`ensure_running`], but always restarts a running daemon, for a new identity. Returns when
/// it is ready.
pub(super) async fn run_anew(common: &Common) -> Result<(), CliError> {
    may_run_anew(common)?;
    renewed(common, Flags::default(), READY_WITHIN, STOP_PATIENCE, false).await.map(drop)
}

/// Refuses to restart a daemon in a user's terminal.
pub(crate) fn may_run_anew(common: &Common) -> Result<(), CliError> {
    let directory = locate::state_dir(&Settings::read_or_default(common)?);
    if let Ok(LocatedDaemon::Runs(running)) = locate::look(&directory)
        && running.is_in_foreground()
        && !Unit::installed()?.is_some_and(|unit| unit.runs(Some(&running)))
    {
        return Err(CliError::other(format!(
            "a daemon runs in the foreground, process {}: stop it where it runs, then do this again",
            running.pid()
        )));
    }
    Ok(())
}

fn leave_to_its_terminal(common: &Common) -> Result<(), CliError> {
    let wanted = gather(Settings::read(common)?, Flags::default())?;
    let Ok(LocatedDaemon::Runs(running)) = locate::look(&wanted.state_dir) else { return Ok(()) };
    let is_units = Unit::installed()?.is_some_and(|unit| unit.runs(Some(&running)));
    match otherwise(&running, &wanted) {
        Some(differs) if running.is_in_foreground() && !is_units => Err(CliError::other(format!(
            "the daemon that runs in the foreground, process {}, has {differs}: restart it where it runs, or with \
             `d daemon restart` in the background",
            running.pid()
        ))),
        _ => Ok(()),
    }
}

async fn renewed(
    common: &Common,
    flags: Flags,
    within: Duration,
    patience: Patience,
    if_needed: bool,
) -> Result<Started, CliError> {
    let wanted = gather(Settings::read(common)?, flags.clone())?;
    let directory = wanted.state_dir.clone();
    let unit = Unit::installed()?;
    let running = match (locate::look(&directory), &unit) {
        (Ok(LocatedDaemon::Runs(running)), _) => Some(running),
        (Ok(LocatedDaemon::Not(_)), _) | (Err(_), Some(_)) => None,
        (Err(failure), None) => return Err(failure),
    };
    let running = match running {
        Some(running) if if_needed && otherwise(&running, &wanted).is_none() => {
            return ready(&directory, within).await.map(Started::Before);
        }
        other => other,
    };
    refuse_inside_own_job(&directory, "restart")?;
    if let Some(running) = &running {
        say_if_otherwise(running, &wanted);
    }
    match unit {
        Some(unit) => by_unit(&unit, &directory, running, patience).await,
        None => detached(common, flags, &directory, within, patience).await,
    }
}

async fn by_unit(
    unit: &Unit,
    directory: &Path,
    running: Option<Running>,
    patience: Patience,
) -> Result<Started, CliError> {
    if let Some(running) = running
        && !unit.runs(Some(&running))
    {
        stop(directory, running, patience).await?;
    }
    unit.restart(directory)
}

async fn detached(
    common: &Common,
    flags: Flags,
    directory: &Path,
    within: Duration,
    patience: Patience,
) -> Result<Started, CliError> {
    let turn = StartLock::take(directory, within).await?;
    let LocatedDaemon::Runs(running) = locate::look(directory)? else {
        return start_detached(common, flags, directory, within, &turn).await;
    };
    let old = running.facts();
    stop(directory, running, patience).await?;
    start_detached(common, flags, directory, within, &turn).await.map_err(|failure| {
        let message = format!("the old daemon was stopped ({old}), and no new one runs: {}", failure.message);
        CliError::new(failure.code, message)
    })
}

/// The difference between the running daemon and the wanted settings, if any.
fn otherwise(running: &Running, wanted: &daemon::DaemonSettings) -> Option<String> {
    let state = running.state.as_ref()?;
    let bus = match &wanted.broker {
        // Port 0 stands for any port.
        Some(managed) if managed.listen.port() == 0 => None,
        Some(managed) => Some(format!("nats://{}", managed.listen)),
        None => Some(wanted.bus.address.to_string()),
    };
    let facts = [
        ("peer id", state.peer_id.to_string(), Some(wanted.peer.to_string())),
        ("role", state.role.as_str().to_owned(), Some(wanted.role.as_str().to_owned())),
        ("bus", state.nats.clone(), bus),
    ];
    let differ = facts.into_iter().filter_map(|(name, is, wanted)| match wanted {
        Some(wanted) if wanted != is => Some(format!("{name} {is}, not {wanted}")),
        _ => None,
    });
    let differ: Vec<String> = differ.collect();
    (!differ.is_empty()).then(|| differ.join("; "))
}

/// Reports a running daemon that differs from the settings.
pub(super) fn say_if_otherwise(running: &Running, wanted: &daemon::DaemonSettings) {
    if let Some(differs) = otherwise(running, wanted) {
        output::say(&format!("the daemon that runs has {differs}"));
    }
}
