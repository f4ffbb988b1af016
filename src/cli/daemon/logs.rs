//! `d daemon logs`: what the daemon has to say.

use std::os::unix::process::CommandExt;

use clap::Args as ClapArgs;

use super::detached::log_path;
use super::locate::{self, LocatedDaemon};
use super::start::directory_of;
use super::tail::{self, Follower};
use super::unit::Unit;
use crate::args::Common;
use crate::exit::CliError;
use crate::output;
use peerbus_daemon::state::SupervisedBy;
use peerbus_process::DirectoryWatch;

/// What `d daemon logs` is given.
#[derive(Debug, ClapArgs)]
pub(crate) struct Logs {
    /// Go on with what is added, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// The last lines only
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
    lines: usize,
}

/// `d daemon logs`
pub(super) async fn run(common: &Common, args: &Logs) -> Result<u8, CliError> {
    let directory = directory_of(common)?;
    let found = locate::look(&directory);
    let detached = match &found {
        Ok(LocatedDaemon::Runs(running)) => {
            running.state.as_ref().is_some_and(|state| state.run_by == Some(SupervisedBy::Detached))
        }
        _ => false,
    };
    if let (Some(unit), false) = (Unit::installed()?, detached) {
        let error = unit.journal(args.lines, args.follow).exec();
        return Err(CliError::other(format!("running journalctl: {error}")));
    }
    found?;
    let path = log_path(&directory);
    let reading = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => CliError::other(format!(
            "there is no log {}: `d daemon start` begins one, and a daemon in the foreground writes to where it was started",
            path.display()
        )),
        _ => CliError::other(format!("reading the log {}: {error}", path.display())),
    };
    // Before the log is read, so that nothing is added unnoticed.
    let watch = if args.follow { Some(DirectoryWatch::of(&directory).map_err(reading)?) } else { None };
    let mut follower = Follower::open(&path).map_err(reading)?;
    let end = tail::last_lines(&mut follower, args.lines).map_err(reading)?;
    output::log(&end)?;
    if let Some(watch) = watch {
        loop {
            output::log(&follower.more().map_err(reading)?)?;
            watch.changed().await.map_err(reading)?;
        }
    }
    Ok(0)
}
