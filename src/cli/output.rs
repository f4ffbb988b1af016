//! Saying things: what was asked for to stdout, everything else to stderr.

use std::io::{self, Write};

use super::exit::{Failure, OUTPUT_CLOSED};

/// Says one line of what was asked for.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    written(writeln!(io::stdout().lock(), "{text}"))
}

/// A closed output is no failure of ours; the code says what happened, as a signal would.
pub(super) fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::new(OUTPUT_CLOSED, "")),
        Err(error) => Err(Failure::other(format!("writing to stdout: {error}"))),
    }
}

/// Says one line of `d`'s own.
pub(super) fn say(text: &str) {
    complain(&format!("d: {text}"));
}

/// Says one line to stderr as it is. Where that is closed, nobody listens.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
