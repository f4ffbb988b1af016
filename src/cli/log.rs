//! The log: stderr, one line an event, quiet for command lines and informative for daemons.
//!
//! How much is said: `-v` and `-vv`, else `PEERBUS_LOG`, else for a daemon the key `log` of its file.
//! Where stderr is the system's journal, lines carry its priorities and no time of their own.

mod level;
mod line;

use std::fs::File;
use std::io;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::Level as Weight;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::exit::Failure;
use super::settings::variable;

pub(super) use level::Level;
use line::{Beginning, Lines};
pub(super) use line::{Priority, escaped};

/// Overrides the file: `PEERBUS_LOG=debug`.
const VARIABLE: &str = "PEERBUS_LOG";

/// Starts the log of a command line, which says nothing of itself unless asked to.
pub(super) fn of_a_command(verbose: u8) -> Result<(), Failure> {
    start(&chosen(verbose, None, Level::off())?)
}

/// Starts the log of a daemon; `file` is what its configuration says.
pub(super) fn of_a_daemon(verbose: u8, file: Option<&Level>) -> Result<(), Failure> {
    start(&chosen(verbose, file, Level::info())?)
}

fn chosen(verbose: u8, file: Option<&Level>, otherwise: Level) -> Result<Level, Failure> {
    match (verbose, variable(VARIABLE)) {
        (0, None) => Ok(file.cloned().unwrap_or(otherwise)),
        (0, Some(text)) => text.parse().map_err(|why| Failure::usage(format!("{VARIABLE}: {why}"))),
        (1, _) => Ok(Level::debug()),
        (_, _) => Ok(Level::trace()),
    }
}

fn start(level: &Level) -> Result<(), Failure> {
    let beginning = if is_journal() { Beginning::Priority } else { Beginning::Time };
    // At this level the library writes out what is sent: secrets, too.
    let harmless = filter_fn(|event| {
        *event.level() < Weight::TRACE || event.target().split("::").next() != Some("async_nats")
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .event_format(Lines(beginning))
        .with_filter(harmless);
    let started = Registry::default().with(level.filter()).with(lines).try_init();
    started.map_err(|error| Failure::other(format!("starting the log: {error}")))
}

/// Whether what is written to stderr goes to the system's journal, which then says which file that
/// is. The variable alone does not tell: it is handed on to whatever a service starts.
pub(super) fn is_journal() -> bool {
    let Some(named) = variable("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned().and_then(|stderr| File::from(stderr).metadata());
    stderr.is_ok_and(|stderr| named == format!("{}:{}", stderr.dev(), stderr.ino()))
}
