//! The log: stderr, one line an event, quiet for command lines and informative for daemons.

use std::io::{self, IsTerminal};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::FormatTime;

use super::args::Verb;
use super::daemon::Daemon;
use super::exit::Failure;
use crate::process::LogFile;

/// Overrides the level, in the syntax of `tracing`: `PEERBUS_LOG=debug`.
const VARIABLE: &str = "PEERBUS_LOG";

/// Starts the log of this process.
pub(super) fn start(verb: &Verb, verbose: u8) -> Result<(), Failure> {
    let level = match (verb, verbose) {
        (Verb::Daemon(Daemon::Run(_)), 0) => "peerbus=info",
        (_, 0) => "off",
        (_, 1) => "peerbus=debug",
        (_, _) => "peerbus=trace,async_nats=debug",
    };
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would be said on the same stderr, and a full disk there would end the daemon.
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    if let Verb::Daemon(Daemon::Run(run)) = verb
        && let Some(path) = run.log_to()
    {
        let file = LogFile::take_over(path)
            .map_err(|error| Failure::other(format!("opening the log {}: {error}", path.display())))?;
        log.with_ansi(false).with_timer(Utc).with_writer(Mutex::new(file)).init();
        return Ok(());
    }
    // The journal stamps lines by itself.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().init();
    } else {
        log.with_timer(Utc).init();
    }
    Ok(())
}

/// UTC, to the millisecond.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, to: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        to.write_str(&jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
    }
}
