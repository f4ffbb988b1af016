//! Exit codes: public, documented by `d help exit-codes`, and relied on by scripts.

use std::process::ExitCode;

use super::{log, misuse, output};
use peerbus_client::exec::{Completion, Integrity};
use peerbus_protocol::Ending;
use peerbus_protocol::ending::{Refusal, StartFailure};

pub(super) const BUS_UNREACHABLE: u8 = 255;
pub(super) const NOT_FOUND: u8 = 254;
pub(super) const OFFLINE: u8 = 253;
pub(super) const TIMED_OUT: u8 = 252;
pub(super) const UNKNOWN: u8 = 251;
pub(super) const REFUSED: u8 = 250;
pub(super) const NOT_STARTED: u8 = 249;
/// Standard input of `d` could not be read to its end.
pub(super) const INPUT_LOST: u8 = 248;
pub(super) const OUTPUT_CLOSED: u8 = 141;
pub(super) const CANCELLED: u8 = 130;
pub(super) const COMMAND_NOT_FOUND: u8 = 127;
pub(super) const NOT_EXECUTABLE: u8 = 126;
/// As in `sysexits.h`, "temporary failure": another daemon or leader is already running.
pub(super) const TAKEN: u8 = 75;
/// As in `sysexits.h`, "input/output error": an output of `d` failed, as on a full disk.
pub(super) const OUTPUT_FAILED: u8 = 74;
/// As in `systemctl status` and the Linux Standard Base: the daemon does not run.
pub(super) const NOT_RUNNING: u8 = 3;
pub(super) const USAGE: u8 = 2;
pub(super) const OTHER: u8 = 1;
const SIGNALLED: i32 = 128;

/// The text of `d help exit-codes`.
pub(super) const TABLE: &str = "\
What the exit codes mean

  One peer, also of `d attach`, `d wait` and `d logs -f`: the command's own code, and
    128+n  signal n ended the command
    127    there is no such command
    126    the command is not executable
    130    cancelled
    141    d's own output was closed, as by `| head`; the command was stopped

  d's own failures; each also prints `d: <ending>: ...` on stderr, and --report
  FILE writes the ending as JSON, because a command may use these codes too:
    255    the bus, or the leader where it is needed, cannot be reached
    254    no such peer, or no such job
    253    the peer is offline
    252    timed out; `d jobs`: a peer gave no answer, so its jobs are not in the list
    251    nobody knows how it ended, or output was lost; also where d was ended
           and a durable command goes on
    250    refused: by the peer's policy, or by the fleet
    249    could not start: no such directory, no such user
    248    input lost: standard input could not be read to its end; the command was
           stopped, or a terminal left that goes on
    74     d's own output could not be written, as on a full disk; the command was
           stopped, or left where it was only looked at

  2        the command line is wrong, names no directory where the peer has no default, or
           means more than one job
  3        `d daemon status`, `reload`: the daemon does not run; `upgrade`: none does any more
  75       `d daemon run`, `start`, `restart`: another daemon or leader is there already;
           `upgrade`: another one is under way
  1        anything else";

/// An error of a command line, with its exit code.
#[derive(Debug)]
pub(super) struct CliError {
    /// The exit code.
    pub(super) code: u8,
    /// Printed first, without `d: `, in the wording that scripts know.
    known_text: Option<String>,
    /// Like `known_text`, for a command called by one of its old names.
    seeds_text: Option<String>,
    /// The message, without `d: `.
    pub(super) message: String,
    /// Further lines of the message.
    more: Vec<String>,
}

impl CliError {
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, known_text: None, seeds_text: None, message: message.into(), more: Vec::new() }
    }

    pub(super) fn other(message: impl Into<String>) -> Self {
        Self::new(OTHER, message)
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    /// Adds a hint what to do next.
    pub(super) fn with_next(self, next: &str) -> Self {
        Self { message: format!("{}; {next}", self.message), ..self }
    }

    /// Adds lines to the message.
    pub(super) fn with_lines(self, more: Vec<String>) -> Self {
        Self { more, ..self }
    }

    /// Sets a text in the wording that scripts know.
    pub(super) fn in_known_words(self, text: impl Into<String>) -> Self {
        Self { known_text: Some(text.into()), ..self }
    }

    /// Sets the wording that scripts know from commands with old names.
    pub(super) fn in_known_words_for_seeds(self, text: impl Into<String>) -> Self {
        Self { seeds_text: Some(text.into()), ..self }
    }

    /// Marks the command as called by an old name.
    pub(super) fn for_seeds(self) -> Self {
        Self { known_text: self.known_text.or(self.seeds_text), seeds_text: None, ..self }
    }
}

/// Prints the requested help, or the error of a command line in the format of `d`'s messages.
pub(super) fn misused(mistake: &clap::Error) -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(way_out) = misuse::explained(mistake, &words) {
        say_mistake(&way_out);
        return USAGE.into();
    }
    let said = mistake.render().to_string();
    if let Some(what) = said.strip_prefix("error: ") {
        say_mistake(what.trim_end());
        return USAGE.into();
    }
    match output::help(mistake) {
        Ok(()) => u8::try_from(mistake.exit_code()).unwrap_or(USAGE).into(),
        Err(failure) => report(&failure),
    }
}

/// Prints an error message that may have several lines.
fn say_mistake(text: &str) {
    let (first, more) = text.split_once('\n').unwrap_or((text, ""));
    output::say(first);
    more.lines().for_each(output::complain);
}

/// Prints the error and returns its exit code.
pub(super) fn report(failure: &CliError) -> ExitCode {
    say(failure);
    failure.code.into()
}

/// Prints the error.
pub(super) fn say(failure: &CliError) {
    let mark = if log::is_journal() { log::Priority::ERROR.to_string() } else { String::new() };
    if let Some(text) = &failure.known_text {
        output::complain(&format!("{mark}{text}"));
    }
    if !failure.message.is_empty() {
        output::complain(&format!("{mark}d: {}", failure.message));
    }
    failure.more.iter().for_each(|line| output::complain(&format!("{mark}d:   {line}")));
}

/// The exit code for an execution.
pub(super) fn code_of(outcome: &Completion) -> u8 {
    if let Integrity::Damaged(_) = outcome.integrity {
        return UNKNOWN;
    }
    let cut = outcome.result.as_ref().and_then(|result| result.output_cut.as_deref());
    if cut.is_some_and(|_| counts_as_cut(&outcome.ending)) {
        return UNKNOWN;
    }
    match &outcome.ending {
        Ending::Exited { code } => u8::try_from(*code).unwrap_or(u8::MAX),
        Ending::Signalled { number, .. } => u8::try_from(SIGNALLED + number).unwrap_or(u8::MAX),
        Ending::TimedOut {} => TIMED_OUT,
        Ending::Cancelled { .. } => CANCELLED,
        Ending::Refused { why: Refusal::NoSuchJob, .. } => NOT_FOUND,
        // The user left out the directory, and no policy forbids it.
        Ending::Refused { why: Refusal::NoDirectory, .. } => USAGE,
        Ending::Refused { .. } => REFUSED,
        Ending::NotStarted { why, .. } => code_of_start(*why),
        Ending::Offline {} => OFFLINE,
        Ending::Unknown { .. } => UNKNOWN,
    }
}

/// Whether incomplete output changes the result. A stopped command's output is incomplete anyway.
pub(super) fn counts_as_cut(ending: &Ending) -> bool {
    matches!(ending, Ending::Exited { .. } | Ending::Signalled { .. })
}

fn code_of_start(why: StartFailure) -> u8 {
    match why {
        StartFailure::CommandNotFound => COMMAND_NOT_FOUND,
        StartFailure::NotExecutable => NOT_EXECUTABLE,
        StartFailure::NoSuchPeer => NOT_FOUND,
        StartFailure::BusUnreachable => BUS_UNREACHABLE,
        _ => NOT_STARTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(ending: Ending) -> u8 {
        code_of(&Completion { ending, result: None, integrity: Integrity::Whole })
    }

    #[test]
    fn every_ending_has_its_code_and_its_line() {
        let not_started = |why| Ending::NotStarted { why, message: String::new() };
        for (ending, wanted) in [
            (Ending::Exited { code: 7 }, 7),
            (Ending::Signalled { signal: "KILL".into(), number: 9 }, 137),
            (Ending::TimedOut {}, 252),
            (Ending::Cancelled { why: String::new() }, 130),
            (Ending::Offline {}, 253),
            (Ending::Unknown { why: String::new() }, 251),
            (not_started(StartFailure::CommandNotFound), 127),
            (not_started(StartFailure::NotExecutable), 126),
            (not_started(StartFailure::NoSuchDirectory), 249),
            (not_started(StartFailure::NoSuchPeer), 254),
            (not_started(StartFailure::BusUnreachable), 255),
        ] {
            assert_eq!(code(ending.clone()), wanted, "{ending:?}");
            assert!(wanted == 7 || wanted == 137 || TABLE.contains(&format!("{wanted}")), "{wanted}");
        }
    }

    #[test]
    fn lost_output_is_never_success() {
        let integrity = Integrity::Damaged("1 byte".into());
        let outcome = Completion { ending: Ending::Exited { code: 0 }, result: None, integrity };
        assert_eq!(code_of(&outcome), UNKNOWN);
    }
}
