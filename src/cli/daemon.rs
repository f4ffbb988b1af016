//! `d daemon`: this machine's daemon.
//!
//! | file | what it is |
//! |---|---|
//! | `run` | runs it in the foreground |
//! | `start`, `stop`, `restart`, `status`, `logs` | control it, by systemd if there is a unit, else directly |
//! | `reload` | makes it read its policy again, and reports the result |
//! | `upgrade` | replaces its program, and rolls back on failure |
//! | `upgrade_guard` | the handover to the next version, and the guard that watches it |
//! | `check` | checks a program before a daemon uses it |
//! | `server` | finds the nats-server of a managed broker |
//! | `locate` | finds the daemon that runs on a state directory |
//! | `detached` | starts a detached daemon and waits until it is ready |
//! | `unit` | the daemon's systemd unit |
//! | `install` | makes the daemon run from now on, with a new unit if there is none |
//! | `tail` | reads the end of a log and follows it |
//!
//! Guarantees: the lock of the state directory and the identity of the process prove which daemon
//! runs, never the state file alone. Signals reach only that process. If several starts run at
//! once, one starts the daemon and the others wait for it.

mod check;
mod detached;
mod install;
mod locate;
mod logs;
mod reload;
mod restart;
mod run;
mod server;
mod start;
mod status;
mod stop;
mod tail;
mod unit;
mod upgrade;
mod upgrade_guard;

use clap::Subcommand;

use super::args::Common;
use super::exit::CliError;
pub(super) use install::{install_unit, settle};
use logs::Logs;
use reload::Reload;
use restart::Restart;
pub(super) use restart::{ensure_running, may_run_anew};
use run::DaemonRun;
pub(super) use server::nats_server;
use start::Start;
use status::DaemonStatus;
use stop::Stop;
pub(super) use unit::{disable_unit, is_unit_active};
use upgrade::Upgrade;
use upgrade_guard::Guard;

/// What can be done with this machine's daemon.
#[derive(Debug, Subcommand)]
pub(super) enum Daemon {
    /// Run the daemon in the foreground
    #[command(
        after_help = "Examples:\n  d daemon run --id vps --role worker --nats nats://10.0.0.1:4222 --state-dir /var/lib/peerbus\n  d daemon run --id lead --role leader --broker managed"
    )]
    Run(Box<DaemonRun>),
    /// Start the daemon; returns when it is ready
    #[command(
        after_help = "Examples:\n  d daemon start\n  d daemon start --id vps --nats nats://10.0.0.1:4222"
    )]
    Start(Box<Start>),
    /// Stop the daemon; returns when it has ended
    #[command(after_help = "Examples:\n  d daemon stop\n  d daemon stop --timeout 1m --force")]
    Stop(Stop),
    /// Stop the daemon and start it again, with the settings as they are now
    #[command(after_help = "Examples:\n  d daemon restart\n  d daemon restart --if-needed")]
    Restart(Box<Restart>),
    /// Have the daemon become another version of itself; returns when that serves, or the old one is back
    #[command(
        after_help = "Examples:\n  d daemon upgrade --from ./d\n  d daemon upgrade --from - < d --no-wait\n\nJobs that run get --jobs-timeout to end. The program before stays beside the new one, as NAME.previous.\nExit codes: 0 it serves, 1 it does not and the old one does, 3 none runs"
    )]
    Upgrade(Upgrade),
    /// Say what this program is
    #[command(hide = true)]
    Check,
    /// Watch a daemon that becomes another version
    #[command(hide = true)]
    Guard(Guard),
    /// Have the daemon read its policy again; returns when it has, and says what is in force
    #[command(after_help = "Example:\n  d daemon reload")]
    Reload(Reload),
    /// Whether the daemon runs, and how it does. Exits 0 when it is ready, 3 when it does not run
    #[command(after_help = "Example:\n  d daemon status --json | jq -r .pid")]
    Status(DaemonStatus),
    /// Show the daemon's log
    #[command(after_help = "Examples:\n  d daemon logs -n 50\n  d daemon logs -f")]
    Logs(Logs),
}

/// Runs a verb of `d daemon`.
pub(super) async fn run(common: &Common, verb: Daemon) -> Result<u8, CliError> {
    match verb {
        Daemon::Run(args) => run::run(common, *args).await,
        Daemon::Start(args) => start::run(common, *args).await,
        Daemon::Stop(args) => stop::run(common, &args).await,
        Daemon::Restart(args) => restart::run(common, *args).await,
        Daemon::Upgrade(args) => upgrade::run(common, args).await,
        Daemon::Check => check::say(),
        Daemon::Guard(args) => upgrade_guard::guard(common, args).await,
        Daemon::Reload(args) => reload::run(common, &args).await,
        Daemon::Status(args) => status::run(common, &args).await,
        Daemon::Logs(args) => logs::run(common, &args).await,
    }
}
