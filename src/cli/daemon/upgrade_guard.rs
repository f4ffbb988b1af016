//! The handover from one version of a daemon to the next, and the guard that watches it.
//!
//! The guard is the old program in its own process, with the old daemon's environment and
//! arguments. It only needs the new version to report that it serves. If the new version exits or
//! takes too long, the guard stops it, restores the replaced files, and becomes the old daemon
//! again. Under systemd, systemd does that last step. Killing the guard is harmless: until the new
//! version has proved itself, the program's name leads to the old one.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::time::{Instant, timeout, timeout_at};

use super::detached::log_path;
use crate::args::Common;
use crate::exit::CliError;
use crate::output;
use peerbus_daemon::NextVersion;
use peerbus_daemon::self_upgrade::{UpgradePhase, UpgradeRecord, copy_this, sync};
use peerbus_daemon::state::{self, RunState, SupervisedBy};
use peerbus_process::{
    Detached, DirectoryWatch, FileId, ProcessHandle, ProcessKey, Signal, StateLock, become_program,
    keep_memory_private,
};

/// How long an unready new version may take to stop before it is killed.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// Suffix for the name of a failed program that another user or tool had put in place.
const FAILED: &str = ".failed";

/// What the guard is given.
#[derive(Debug, ClapArgs)]
pub(crate) struct Guard {
    /// The daemon, as JSON
    #[arg(long)]
    of: String,
    /// How it is run, as JSON
    #[arg(long)]
    run_by: String,
    /// Where it was started
    #[arg(long)]
    from: PathBuf,
    /// Its arguments
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Executes the next version. Returns only on failure, which is recorded and logged.
pub(super) fn hand_over(next: NextVersion) {
    let guarded = start_guard(&next).map_err(|error| format!("starting its guard: {error}"));
    let why = match guarded {
        Err(why) => why,
        Ok(()) => {
            let arguments: Vec<OsString> = env::args_os().collect();
            let program = next.attempt.program();
            format!("executing it: {}", become_program(program, &arguments, env::vars_os(), &next.lock))
        }
    };
    tracing::error!(version = next.attempt.version, why, "this version goes on");
    give_up(&next.state_dir, next.attempt, &why);
}

fn start_guard(next: &NextVersion) -> io::Result<()> {
    let json = |value: serde_json::Result<String>| value.map(OsString::from).map_err(io::Error::other);
    let mut arguments: Vec<OsString> = ["daemon", "guard", "--state-dir"].map(OsString::from).into();
    arguments.extend([
        next.state_dir.clone().into_os_string(),
        "--of".into(),
        json(serde_json::to_string(&next.process))?,
        "--run-by".into(),
        json(serde_json::to_string(&next.run_by))?,
        "--from".into(),
        env::current_dir().unwrap_or_else(|_| "/".into()).into_os_string(),
        "--".into(),
    ]);
    arguments.extend(env::args_os().skip(1));
    let output = fs::File::from(io::stderr().as_fd().try_clone_to_owned()?);
    Detached::start(arguments, env::vars_os(), &output).map(drop)
}

/// Records a failed attempt and restores what it changed.
fn give_up(state_dir: &Path, attempt: UpgradeRecord, why: &str) {
    let put_back = match &attempt.staged {
        Some(staged) => fs::remove_file(staged),
        None => put_back(&attempt),
    };
    if let Err(error) = put_back.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }) {
        output::say(&format!("putting back the program {}: {error}", attempt.path.display()));
    }
    note(state_dir, attempt, why);
}

fn note(state_dir: &Path, attempt: UpgradeRecord, why: &str) {
    if let Err(error) = attempt.now(UpgradePhase::Failed, why).write(state_dir) {
        output::say(&format!("writing down that an upgrade failed: {error}"));
    }
}

/// Restores this program's name, which now leads to a failed program.
fn put_back(attempt: &UpgradeRecord) -> io::Result<()> {
    let path = &attempt.path;
    if FileId::of(path)? != attempt.file {
        return Ok(());
    }
    let beside = |suffix: &str| {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    };
    let again = match attempt.kept.clone().filter(|kept| kept.exists()) {
        Some(kept) => kept,
        None => {
            let again = beside(".again");
            copy_this(&again).inspect_err(|_| drop(fs::remove_file(&again)))?;
            again
        }
    };
    let failed = beside(FAILED);
    let _ = fs::remove_file(&failed);
    fs::hard_link(path, &failed)?;
    fs::rename(&again, path)?;
    sync(path.parent().unwrap_or(Path::new("/")))
}

/// The result of a trial.
enum Verdict {
    Serves,
    /// A user stopped the new version.
    Stopped,
    /// Another daemon was started in its place and continues the upgrade.
    Replaced,
    Ended,
    TooLate,
}

/// `d daemon guard`
pub(super) async fn guard(common: &Common, args: Guard) -> Result<u8, CliError> {
    let state_dir = super::start::directory_of(common)?;
    let wrong = |error: serde_json::Error| CliError::usage(error.to_string());
    let process: ProcessKey = serde_json::from_str(&args.of).map_err(wrong)?;
    let run_by: SupervisedBy = serde_json::from_str(&args.run_by).map_err(wrong)?;
    let failed = |error: io::Error| CliError::other(format!("watching over an upgrade: {error}"));
    // It inherits the daemon's secrets.
    keep_memory_private().map_err(failed)?;
    let Some(attempt) = read(&state_dir)? else { return Ok(0) };
    let daemon = ProcessHandle::open(&process).map_err(failed)?;
    let verdict = match &daemon {
        Some(daemon) => watch_over(&state_dir, daemon, attempt.ready_within()).await?,
        None => Verdict::Ended,
    };
    let verdict = match verdict {
        Verdict::Ended => how_it_ended(&state_dir, &process)?,
        other => other,
    };
    // The new version has proved itself, but could not record that, as on a full disk.
    if attempt.has_its_place() {
        return match (verdict, run_by) {
            (Verdict::Ended, SupervisedBy::Foreground | SupervisedBy::Detached) => Err(CliError::other(
                format!("starting {}: {}", attempt.version, be_the_daemon(args, &state_dir, run_by)),
            )),
            _ => Ok(0),
        };
    }
    let why = match verdict {
        Verdict::Serves | Verdict::Replaced => return Ok(0),
        Verdict::Stopped => {
            let why = "it was stopped before it had proved itself";
            match &attempt.staged {
                Some(_) => give_up(&state_dir, attempt, why),
                // Whoever replaced the program and stopped the daemon did so on purpose.
                None => note(&state_dir, attempt, why),
            }
            return Ok(0);
        }
        Verdict::Ended => format!("{} ended: {}", attempt.version, last_words(&state_dir)),
        Verdict::TooLate => {
            let within = attempt.ready_within();
            format!("{} was not ready within {within:?}: {}", attempt.version, last_words(&state_dir))
        }
    };
    if let Some(daemon) = &daemon {
        stop(daemon).await.map_err(failed)?;
    }
    output::say(&format!("{why}; {} goes on", peerbus_protocol::VERSION));
    give_up(&state_dir, attempt, &why);
    if run_by == SupervisedBy::Systemd {
        // Systemd restarts the daemon by its name, which leads to the old program.
        return Ok(0);
    }
    Err(CliError::other(format!(
        "starting {} again: {}",
        peerbus_protocol::VERSION,
        be_the_daemon(args, &state_dir, run_by)
    )))
}

fn read(state_dir: &Path) -> Result<Option<UpgradeRecord>, CliError> {
    let attempt = UpgradeRecord::read(state_dir).map_err(|error| CliError::other(error.to_string()))?;
    Ok(attempt.filter(UpgradeRecord::is_open))
}

async fn watch_over(state_dir: &Path, daemon: &ProcessHandle, within: Duration) -> Result<Verdict, CliError> {
    let failed = |error| CliError::other(format!("watching {}: {error}", state_dir.display()));
    let watch = DirectoryWatch::of(state_dir).map_err(failed)?;
    let deadline = Instant::now() + within;
    loop {
        // Read after the watch exists, so that no change is missed.
        if read(state_dir)?.is_none() {
            return Ok(Verdict::Serves);
        }
        let ended = async {
            tokio::select! {
                changed = watch.changed() => changed.map(|()| false),
                ended = daemon.ended() => ended.map(|()| true),
            }
        };
        let Ok(ended) = timeout_at(deadline, ended).await else { return Ok(Verdict::TooLate) };
        if ended.map_err(failed)? {
            return Ok(Verdict::Ended);
        }
    }
}

/// The last state of an exited daemon. A daemon records a requested stop before it exits.
fn how_it_ended(state_dir: &Path, daemon: &ProcessKey) -> Result<Verdict, CliError> {
    if read(state_dir)?.is_none() {
        return Ok(Verdict::Serves);
    }
    let holder = StateLock::holder(state_dir).ok().flatten().and_then(|by| by.identity().ok().flatten());
    Ok(match (holder, state::read(state_dir)) {
        (Some(other), _) if other != *daemon => Verdict::Replaced,
        (_, Ok(state)) if state.process != *daemon => Verdict::Replaced,
        (_, Ok(state)) if state.state == RunState::Stopped => Verdict::Stopped,
        _ => Verdict::Ended,
    })
}

fn last_words(state_dir: &Path) -> String {
    state::read(state_dir).map_or_else(|error| error.to_string(), |state| state.truth().state_reason)
}

async fn stop(daemon: &ProcessHandle) -> io::Result<()> {
    for signal in [Signal::TERM, Signal::KILL] {
        daemon.signal(signal)?;
        if timeout(STOPS_WITHIN, daemon.ended()).await.is_ok() {
            return Ok(());
        }
    }
    Err(io::Error::other("the new version was killed and is still there"))
}

/// Executes the old daemon or the one that has replaced it; detached if it had a terminal. Returns
/// only on failure.
fn be_the_daemon(args: Guard, state_dir: &Path, run_by: SupervisedBy) -> io::Error {
    let Some(attempt) = UpgradeRecord::read(state_dir).ok().flatten() else {
        return io::ErrorKind::NotFound.into();
    };
    let same = FileId::of(&attempt.path).ok() == FileId::of_running().ok();
    let is_good = same || attempt.has_its_place();
    let program = if is_good { attempt.path } else { PathBuf::from("/proc/self/exe") };
    let mut command = std::process::Command::new(program);
    command.args(args.arguments).current_dir(args.from);
    if run_by == SupervisedBy::Foreground {
        command.arg("--log-to").arg(log_path(state_dir));
    }
    command.exec()
}
