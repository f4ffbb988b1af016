//! `d daemon upgrade`: replaces the daemon's program, and rolls back on failure.
//!
//! This command stages the new program beside the old one, checks it, and asks the daemon. The
//! daemon, the new version and the guard do the rest and record their progress. So this command may
//! be killed at any time: before the request nothing has changed, and afterwards the upgrade
//! continues without it.

mod staging;

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::time::{Instant, timeout_at};

use super::locate::{self, LocatedDaemon, Running};
use super::start::directory_of;
use crate::args::{Common, duration};
use crate::exit::{CANCELLED, CliError, NOT_RUNNING, OTHER, TAKEN};
use crate::output;
use crate::settings::variable;
use peerbus_daemon::job_is_open;
use peerbus_daemon::self_upgrade::{UpgradePhase, UpgradeRecord, install};
use peerbus_process::{DirectoryWatch, FileId, Signal, host};
use peerbus_protocol::exec::JOB_VARIABLE;
use staging::Staged;

/// Slack added for systemd's own restart of the daemon.
const LATE: Duration = Duration::from_secs(60);

/// What `d daemon upgrade` is given.
#[derive(Debug, ClapArgs)]
pub(crate) struct Upgrade {
    /// The new program; - for standard input
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// What it has to be: its blake3 digest, in hexadecimal
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
    /// How long the new daemon may take to be ready and to prove itself; then the old one is brought back
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    ready_timeout: Duration,
    /// How long jobs that run may go on; then they are stopped, as at any stop
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    jobs_timeout: Duration,
    /// Return as soon as the daemon was asked; `d daemon status` tells what became of it
    #[arg(long)]
    no_wait: bool,
}

/// `d daemon upgrade`
pub(super) async fn run(common: &Common, args: Upgrade) -> Result<u8, CliError> {
    let directory = directory_of(common)?;
    let running = match locate::look(&directory)? {
        LocatedDaemon::Runs(running) => Some(running),
        LocatedDaemon::Not(_) => None,
    };
    let path = program_of(running.as_ref())?;
    check_owner(&directory)?;
    let _turn = UpgradeLock::take(&directory)?;
    settle_the_last(&directory, running.is_some())?;
    let staged = Staged::from(&args.from, &path, &directory, args.digest.as_deref())?;
    let version = staged.check().await?;
    if let Some(running) = running.as_ref().filter(|running| runs(running, &version))
        && staged.is(&path)
    {
        output::line(&format!("running already {} version={version}", running.facts()))?;
        return Ok(0);
    }
    let Some(running) = running else {
        install(&staged.path, &path).map_err(|error| staged.failed("putting it in place", &error))?;
        staged.keep();
        output::line(&format!("installed program={} version={version}; no daemon runs", path.display()))?;
        return Ok(0);
    };
    let attempt = asked(&args, &staged, path, version)?;
    let watch = DirectoryWatch::of(&directory)
        .map_err(|error| CliError::other(format!("watching {}: {error}", directory.display())))?;
    attempt.write(&directory).map_err(|error| staged.failed("writing down what is asked", &error))?;
    staged.keep();
    running
        .process
        .signal(Signal::USR1)
        .map_err(|error| CliError::other(format!("asking the daemon, process {}: {error}", running.pid())))?;
    if args.no_wait || is_its_own_job(&directory) {
        output::line(&format!(
            "asked {} for version={} upgrade={}",
            running.facts(),
            attempt.version,
            attempt.id
        ))?;
        return Ok(0);
    }
    let patience = args.jobs_timeout + args.ready_timeout + LATE;
    conclude(&directory, follow(&directory, &watch, &attempt, patience).await?).await
}

/// The file to replace: the daemon's program, else this program.
fn program_of(running: Option<&Running>) -> Result<PathBuf, CliError> {
    let Some(running) = running else {
        return std::env::current_exe()
            .map_err(|error| CliError::other(format!("finding out where this program is: {error}")));
    };
    let program = running.state.as_ref().and_then(|state| state.program.clone());
    program.map(|program| program.path).ok_or_else(|| {
        CliError::other(format!(
            "the daemon, process {}, is an older one that cannot hand over, or has just been started; put the new \
             program in its place and `d daemon restart`",
            running.pid()
        ))
    })
}

/// The daemon must be able to read the files written here.
fn check_owner(directory: &Path) -> Result<(), CliError> {
    match fs::metadata(directory) {
        Ok(owner) if owner.uid() != host::user_number() => Err(CliError::other(format!(
            "{} is another user's; whose daemon it is upgrades it",
            directory.display()
        ))),
        _ => Ok(()),
    }
}

fn runs(running: &Running, version: &str) -> bool {
    running.is_ready() && running.state.as_ref().is_some_and(|state| state.version == version)
}

/// Whether the caller is one of the daemon's own jobs. Waiting here would deadlock, since the
/// daemon waits for its jobs.
fn is_its_own_job(directory: &Path) -> bool {
    variable(JOB_VARIABLE).and_then(|id| id.parse().ok()).is_some_and(|job| job_is_open(directory, job))
}

/// The right to upgrade the daemon of a state directory, until dropped.
struct UpgradeLock(#[expect(dead_code, reason = "held, not used")] File);

impl UpgradeLock {
    fn take(directory: &Path) -> Result<Self, CliError> {
        super::start::make(directory)?;
        let path = directory.join("upgrade.lock");
        let failed = |error| CliError::other(format!("locking {}: {error}", path.display()));
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::Error(error)) => Err(failed(error)),
            Err(TryLockError::WouldBlock) => Err(taken(directory, "another `d daemon upgrade`")),
        }
    }
}

fn taken(directory: &Path, what: &str) -> CliError {
    CliError::new(TAKEN, format!("{what} of {} is under way; nothing was changed", directory.display()))
}

/// Refuses a second upgrade while one is in progress, even if no command waits for it.
fn settle_the_last(directory: &Path, daemon_runs: bool) -> Result<(), CliError> {
    let last = UpgradeRecord::read(directory).map_err(|error| CliError::other(error.to_string()))?;
    let Some(last) = last.filter(UpgradeRecord::is_open) else { return Ok(()) };
    if daemon_runs {
        return Err(taken(directory, &format!("the upgrade to {}", last.version)));
    }
    if let Some(staged) = &last.staged {
        // If it was already moved into place, there is nothing to remove.
        let _ = fs::remove_file(staged);
    }
    let why = "the daemon ended before it had proved itself";
    last.now(UpgradePhase::Failed, why)
        .write(directory)
        .map_err(|error| CliError::other(format!("writing down how the last upgrade ended: {error}")))
}

fn asked(args: &Upgrade, staged: &Staged, path: PathBuf, version: String) -> Result<UpgradeRecord, CliError> {
    let file = FileId::of(&staged.path).map_err(|error| staged.failed("looking at it", &error))?;
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
    Ok(UpgradeRecord {
        jobs_until_ms: Some(now.saturating_add(ms(args.jobs_timeout))),
        ready_within_ms: ms(args.ready_timeout),
        ..UpgradeRecord::new(path, Some(staged.path.clone()), file, version)
    })
}

/// Follows an attempt to its end, and reports its current step.
async fn follow(
    directory: &Path,
    watch: &DirectoryWatch,
    asked: &UpgradeRecord,
    patience: Duration,
) -> Result<UpgradeRecord, CliError> {
    let failed = |error| CliError::other(format!("watching {}: {error}", directory.display()));
    let deadline = Instant::now() + patience;
    let mut said = String::new();
    loop {
        let attempt = UpgradeRecord::read(directory).map_err(|error| CliError::other(error.to_string()))?;
        let Some(attempt) = attempt.filter(|attempt| attempt.id == asked.id) else {
            return Err(CliError::other("somebody else has begun another upgrade meanwhile"));
        };
        if !attempt.is_open() {
            return Ok(attempt);
        }
        let doing = doing(directory, &attempt);
        if doing != said {
            output::say(&format!("{}: {doing}", attempt.version));
            said = doing;
        }
        tokio::select! {
            changed = timeout_at(deadline, watch.changed()) => match changed {
                Ok(changed) => changed.map_err(failed)?,
                Err(_) => return Err(CliError::other(format!(
                    "the upgrade is still under way ({said}); `d daemon status` tells what became of it"
                ))),
            },
            _ = tokio::signal::ctrl_c() => {
                let why = "interrupted; the upgrade goes on, and `d daemon status` tells what became of it";
                return Err(CliError::new(CANCELLED, why));
            }
        }
    }
}

fn doing(directory: &Path, attempt: &UpgradeRecord) -> String {
    let state = match locate::look(directory) {
        Ok(LocatedDaemon::Runs(running)) => running.state,
        _ => None,
    };
    match (attempt.phase, state) {
        (UpgradePhase::Asked, Some(state)) => {
            let next = state.program.and_then(|program| program.next);
            next.map_or_else(|| "the daemon was asked".to_owned(), |next| next.why)
        }
        (UpgradePhase::Asked, None) => "the daemon was asked".to_owned(),
        (_, Some(state))
            if state.version == attempt.version && state.state == peerbus_daemon::state::RunState::Ready =>
        {
            "it is ready, and has to prove itself".to_owned()
        }
        _ => "it comes up".to_owned(),
    }
}

/// Reports the result, once a daemon serves again.
async fn conclude(directory: &Path, attempt: UpgradeRecord) -> Result<u8, CliError> {
    let UpgradeRecord { version, before, why, .. } = attempt;
    let running = super::start::comes_back(directory, LATE).await?;
    let serves = running.as_ref().and_then(|running| running.state.clone());
    match (attempt.phase, serves) {
        (UpgradePhase::Done, Some(state)) if state.version == version => {
            let facts = running.map_or_else(String::new, |running| running.facts());
            output::line(&format!("upgraded {facts} version={version} before={before}"))?;
            Ok(0)
        }
        (_, Some(state)) => Err(CliError::new(
            OTHER,
            format!(
                "not upgraded to {version}: {why}; {} serves, process {}",
                state.version, state.process.pid
            ),
        )),
        (_, None) => Err(CliError::new(
            NOT_RUNNING,
            format!("not upgraded to {version}: {why}; and no daemon is ready"),
        )),
    }
}
