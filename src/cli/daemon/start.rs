//! `d daemon start`: starts a detached daemon, or systemd's unit if there is one.
//!
//! Guarantees: it returns 0 only if the daemon is ready, and names it. A daemon that is not ready
//! in time is stopped again. If several starts run at once, one starts the daemon, and the others
//! wait and report the same.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::time::{Instant, sleep};

use super::detached::{DetachedDaemon, StartOutcome, log_path};
use super::locate::{self, LocatedDaemon, Running, Waited};
use super::run::{Flags, gather};
use super::unit::Unit;
use crate::args::{Common, duration};
use crate::exit::{CANCELLED, CliError, OTHER, TAKEN};
use crate::output;
use crate::settings::Settings;

/// What `d daemon start` is given.
#[derive(Debug, ClapArgs)]
pub(crate) struct Start {
    #[command(flatten)]
    pub(super) flags: Flags,
    /// How long it may take to be ready; then it is stopped again
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(super) ready_timeout: Duration,
}

/// A ready daemon, and whether it already ran before.
#[derive(Debug)]
pub(super) enum Started {
    Now(Running),
    Before(Running),
    /// By systemd; systemd's description if its state directory is not readable here.
    ByUnit(String),
}

impl Started {
    /// One line for users and scripts.
    pub(super) fn line(&self, done: &str) -> String {
        match self {
            Self::Now(running) => format!("{done} {}", running.facts()),
            Self::Before(running) => format!("running already {}", running.facts()),
            Self::ByUnit(facts) => format!("{done} {facts}"),
        }
    }
}

/// `d daemon start`
pub(super) async fn run(common: &Common, args: Start) -> Result<u8, CliError> {
    let wanted = gather(Settings::read(common)?, args.flags.clone())?;
    let directory = wanted.state_dir.clone();
    let unit = Unit::installed()?;
    if running_beside(&directory, unit.as_ref())?.is_some() {
        let running = ready(&directory, args.ready_timeout).await?;
        super::restart::say_if_otherwise(&running, &wanted);
        output::line(&Started::Before(running).line(""))?;
        return Ok(0);
    }
    let started = match unit {
        Some(unit) => {
            refuse_flags(common, &args.flags)?;
            unit.start(&directory)?
        }
        None => {
            let turn = StartLock::take(&directory, args.ready_timeout).await?;
            start_detached(common, args.flags, &directory, args.ready_timeout, &turn).await?
        }
    };
    output::line(&started.line("started"))?;
    Ok(0)
}

/// The running daemon, as far as it is visible: a unit's daemon may be another user's.
fn running_beside(directory: &Path, unit: Option<&Unit>) -> Result<Option<Running>, CliError> {
    match (locate::look(directory), unit) {
        (Ok(LocatedDaemon::Runs(running)), _) => Ok(Some(running)),
        (Ok(LocatedDaemon::Not(_)), _) | (Err(_), Some(_)) => Ok(None),
        (Err(failure), None) => Err(failure),
    }
}

/// Refuses flags for a unit, which has its own settings.
pub(super) fn refuse_flags(common: &Common, flags: &Flags) -> Result<(), CliError> {
    let typed = *flags != Flags::default()
        || common.nats.is_some()
        || common.creds.is_some()
        || common.state_dir.is_some();
    if !typed {
        return Ok(());
    }
    Err(CliError::usage(
        "systemd starts this machine's daemon by its unit peerbus.service, which these flags do not reach: put the \
         settings into the configuration file, or use `d daemon run` for one more daemon",
    ))
}

/// Starts a daemon if none runs. The caller must hold the [`StartLock`].
pub(super) async fn start_detached(
    common: &Common,
    flags: Flags,
    directory: &Path,
    within: Duration,
    _turn: &StartLock,
) -> Result<Started, CliError> {
    // An earlier holder of the lock may have started one.
    if let LocatedDaemon::Runs(_) = locate::look(directory)? {
        return ready(directory, within).await.map(Started::Before);
    }
    let mut child = DetachedDaemon::start(common, flags, directory)?;
    match child.comes_up(within).await {
        StartOutcome::Ready => match locate::look(directory)? {
            LocatedDaemon::Runs(running) => Ok(Started::Now(running)),
            LocatedDaemon::Not(last) => Err(ended(directory, last.map(|state| state.state_reason))),
        },
        StartOutcome::Ended { code: TAKEN, .. }
            if matches!(locate::look(directory)?, LocatedDaemon::Runs(_)) =>
        {
            // A concurrent `d daemon run` was faster.
            ready(directory, within).await.map(Started::Before)
        }
        StartOutcome::Ended { code, how } => Err(failed(&mut child, directory, code, &how)),
        StartOutcome::Stopped { why } => {
            let code = if why == "interrupted" { CANCELLED } else { OTHER };
            Err(failed(&mut child, directory, code, &format!("{why}, so it was stopped again")))
        }
    }
}

/// Shows the daemon's output, and returns the error.
fn failed(child: &mut DetachedDaemon, directory: &Path, code: u8, how: &str) -> CliError {
    let words = child.last_words();
    words.iter().for_each(|line| output::complain(line));
    let status = child.status().map(str::to_owned).unwrap_or_default();
    let reason = if status.is_empty() { String::new() } else { format!(": {status}") };
    let log = log_path(directory);
    CliError::new(code, format!("the daemon did not come up: {how}{reason}; its log is {}", log.display()))
}

fn ended(directory: &Path, reason: Option<String>) -> CliError {
    let why = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let log = log_path(directory);
    CliError::other(format!("the daemon ended as soon as it was ready{why}; its log is {}", log.display()))
}

/// Waits for a daemon started by another process.
pub(super) async fn ready(directory: &Path, within: Duration) -> Result<Running, CliError> {
    match locate::until_ready(directory, within).await? {
        Waited::Ready(running) => Ok(running),
        Waited::Ended(last) => {
            let why = last.map_or_else(|| "it did not say why".to_owned(), |state| state.state_reason);
            Err(CliError::other(format!("the daemon that was starting has ended: {why}")))
        }
        Waited::StillNot(running) => Err(CliError::other(format!(
            "a daemon runs as process {} and is not ready within {within:?}: {}; `d daemon stop` stops it",
            running.pid(),
            running.doing()
        ))),
    }
}

/// Waits for a daemon that may have to be restarted; `None` if none is ready in time.
pub(super) async fn comes_back(directory: &Path, within: Duration) -> Result<Option<Running>, CliError> {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match locate::until_ready(directory, left).await? {
            Waited::Ready(running) => return Ok(Some(running)),
            Waited::StillNot(_) => return Ok(None),
            Waited::Ended(_) if left.is_zero() => return Ok(None),
            // There is no event for a missing daemon, so poll.
            Waited::Ended(_) => sleep(StartLock::ASK_EVERY).await,
        }
    }
}

/// The right to start the daemon of a state directory, until dropped. The kernel releases it if its
/// holder dies.
#[derive(Debug)]
pub(super) struct StartLock(#[expect(dead_code, reason = "held, not used")] File);

impl StartLock {
    /// Poll interval, since the kernel has no lock with a timeout.
    const ASK_EVERY: Duration = Duration::from_millis(50);

    /// Waits for the lock; creates the state directory if missing.
    pub(super) async fn take(directory: &Path, within: Duration) -> Result<Self, CliError> {
        make(directory)?;
        let path = Self::path(directory);
        let failed = |error| CliError::other(format!("locking {}: {error}", path.display()));
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        let deadline = Instant::now() + within;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(Self::ASK_EVERY).await,
                Err(TryLockError::WouldBlock) => {
                    let who = "another `d daemon start` or `restart` is still at it";
                    return Err(CliError::other(format!(
                        "{who} after {within:?}, on {}",
                        directory.display()
                    )));
                }
            }
        }
    }

    /// Whether another process is starting a daemon.
    pub(super) fn is_taken(directory: &Path) -> bool {
        File::open(Self::path(directory))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn path(directory: &Path) -> PathBuf {
        directory.join("start.lock")
    }
}

pub(super) fn make(directory: &Path) -> Result<(), CliError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        CliError::other(format!("making the state directory {}: {error}", directory.display()))
    })
}

/// The current state directory, for verbs without a daemon's flags.
pub(super) fn directory_of(common: &Common) -> Result<PathBuf, CliError> {
    Ok(locate::state_dir(&Settings::read(common)?))
}
