//! `d daemon`: this machine's daemon.

mod run;

use clap::Subcommand;

use super::args::Common;
use super::exit::Failure;
use run::DaemonRun;

/// What can be done with this machine's daemon.
#[derive(Debug, Subcommand)]
pub(super) enum Daemon {
    /// Run the daemon in the foreground
    Run(Box<DaemonRun>),
}

/// Makes sure that a daemon runs here with the settings in force.
pub(super) async fn ensure_running(common: &Common) -> Result<(), Failure> {
    super::status::look(common).await.map(drop)
}

/// Does what is asked with this machine's daemon.
pub(super) async fn run(common: &Common, verb: Daemon) -> Result<u8, Failure> {
    match verb {
        Daemon::Run(args) => run::run(common, *args).await,
    }
}
