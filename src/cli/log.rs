//! The log: stderr, one line per event, quiet for command lines and informative for daemons.
//!
//! The level comes from `-v` and `-vv`, else `PEERBUS_LOG`, else for a daemon from the key `log` of
//! its file. If stderr is systemd's journal, lines have its priorities and no time of their own.

mod level;
mod line;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;

use tracing::Level as Weight;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::exit::CliError;
use super::output;
use super::settings::variable;
use peerbus_process::{Blocking, LogFile};

pub(super) use level::Level;
pub(super) use line::Priority;
use line::{Beginning, Lines};

/// Overrides the file: `PEERBUS_LOG=debug`.
const VARIABLE: &str = "PEERBUS_LOG";

/// Starts the log of a command line, which is silent by default.
pub(super) fn of_a_command(verbose: u8) -> Result<(), CliError> {
    start(&chosen(verbose, None, Level::off())?, BoxMakeWriter::new(|| Blocking(io::stderr())))
}

/// Starts the log of a daemon; `file` is its configured level. With `log_to`, all its output goes
/// to that file.
pub(super) fn of_a_daemon(verbose: u8, file: Option<&Level>, log_to: Option<&Path>) -> Result<(), CliError> {
    let writer = match log_to {
        None => BoxMakeWriter::new(|| Blocking(io::stderr())),
        Some(path) => {
            let opening = |error| CliError::other(format!("opening the log {}: {error}", path.display()));
            BoxMakeWriter::new(Mutex::new(LogFile::take_over(path).map_err(opening)?))
        }
    };
    start(&chosen(verbose, file, Level::info())?, writer)
}

fn chosen(verbose: u8, file: Option<&Level>, otherwise: Level) -> Result<Level, CliError> {
    match (verbose, variable(VARIABLE)) {
        (0, None) => Ok(file.cloned().unwrap_or(otherwise)),
        (0, Some(text)) => text.parse().map_err(|why| CliError::usage(format!("{VARIABLE}: {why}"))),
        (1, _) => Ok(Level::debug()),
        (_, _) => Ok(Level::trace()),
    }
}

fn start(level: &Level, writer: BoxMakeWriter) -> Result<(), CliError> {
    let beginning = if is_journal() { Beginning::Priority } else { Beginning::Time };
    // At this level the NATS library logs sent messages, which may hold secrets.
    let harmless = filter_fn(|event| {
        *event.level() < Weight::TRACE || event.target().split("::").next() != Some("async_nats")
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        // The error would go to the same stderr, and a full disk there would end the daemon.
        .log_internal_errors(false)
        .with_ansi(output::has_colours(&io::stderr()))
        .event_format(Lines(beginning))
        .with_filter(harmless);
    let started = Registry::default().with(level.filter()).with(lines).try_init();
    started.map_err(|error| CliError::other(format!("starting the log: {error}")))
}

/// Whether stderr is the journal, compared by device and inode. The variable alone proves nothing,
/// since child processes inherit it.
pub(super) fn is_journal() -> bool {
    let Some(named) = variable("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned().and_then(|stderr| File::from(stderr).metadata());
    stderr.is_ok_and(|stderr| named == format!("{}:{}", stderr.dev(), stderr.ino()))
}
