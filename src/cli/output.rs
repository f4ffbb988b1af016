//! Saying things: what was asked for to stdout, everything else to stderr.

use std::io::{self, Write};

use super::exit::{Failure, OUTPUT_CLOSED, OUTPUT_FAILED};
use crate::process::Blocking;

/// Says one line of what was asked for.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// Says what was asked for, to the byte.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    // Held, so that two threads do not write into each other's lines.
    let stdout = io::stdout().lock();
    Blocking(&stdout).write_all(bytes).map_err(|error| failure(&error))
}

/// A closed output is no failure of ours; the code says what happened, as a signal would.
pub(super) fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(OUTPUT_CLOSED, ""),
        _ => Failure::new(OUTPUT_FAILED, format!("output failed: writing standard output: {error}")),
    }
}

/// Says one line of `d`'s own.
pub(super) fn say(text: &str) {
    complain(&format!("d: {text}"));
}

/// Says one line to stderr as it is. Where that is closed, nobody listens.
pub(super) fn complain(text: &str) {
    let stderr = io::stderr().lock();
    let _ = Blocking(&stderr).write_all(format!("{text}\n").as_bytes());
}
