//! Messages about a command's end, and hints where to find an end that is unknown here.

use super::{Streams, Written};
use crate::exit::{self, CliError};
use crate::output;
use peerbus_client::exec::{Completion, Integrity};
use peerbus_protocol::ending::StartFailure;
use peerbus_protocol::exec::{HungProcess, JobResult, OutputHolder};
use peerbus_protocol::{Ending, JobId, PeerId};

/// Prints the messages about the end, and returns the exit code. `is_kept` says whether the peer
/// keeps the output.
pub(crate) fn conclude(
    peer: &PeerId,
    job: JobId,
    outcome: &Completion,
    streams: &Streams,
    is_kept: bool,
) -> Result<u8, CliError> {
    let code = exit::code_of(outcome);
    let said_all = if is_kept { Next::Read } else { Next::Ask };
    let what = match &outcome.ending {
        Ending::Cancelled { .. } => "the command was stopped".to_owned(),
        ending => format!("the command {ending}"),
    };
    if streams.output != Written::Whole
        && let Some(failure) = streams.failure(&what)
    {
        return Err(failure);
    }
    if let Integrity::Damaged(missing) = &outcome.integrity {
        let ending = &outcome.ending;
        let why = format!("output was lost: {missing}; the command {ending}");
        return unknown(code, (peer, job), &why, said_all);
    }
    // Other ends take precedence: they are worse, or came before any input.
    if let Ending::Exited { .. } | Ending::Signalled { .. } | Ending::Cancelled { .. } = &outcome.ending
        && let Some(failure) = streams.failure(&what)
    {
        return Err(failure);
    }
    let failure = |text: String| Err(CliError::new(code, text));
    if let Some(cut) = outcome.result.as_ref().and_then(|result| result.output_cut.as_deref())
        && let Some(failure) = was_cut(cut, &outcome.ending)
    {
        return Err(failure);
    }
    match &outcome.ending {
        Ending::Exited { .. } | Ending::Signalled { .. } => Ok(code),
        Ending::TimedOut {} => failure(match what_hangs(outcome.result.as_ref()) {
            Some(hangs) => format!("timed out: the command was stopped on {peer}, but {hangs}"),
            None => format!("timed out: the command was stopped on {peer}, with all it had started"),
        }),
        Ending::Cancelled { why } => failure(match what_hangs(outcome.result.as_ref()) {
            Some(hangs) => format!("cancelled: {why}, but {hangs}"),
            None => format!("cancelled: {why}"),
        }),
        Ending::Refused { message, .. } => failure(format!("refused: {peer}: {message}")),
        Ending::NotStarted { why: StartFailure::NeverArrived, message } => {
            failure(format!("not started: {message}; try again")).map_err(|failure| {
                failure.in_known_words_for_seeds(format!("Failed to send command to peer: {peer}"))
            })
        }
        Ending::NotStarted { message, .. } => failure(format!("not started: {peer}: {message}")),
        Ending::Offline {} => failure(format!("offline: Peer is offline: {peer}")),
        Ending::Unknown { why } if outcome.result.is_some() => {
            let hangs = what_hangs(outcome.result.as_ref());
            let why = hangs.map_or_else(|| why.clone(), |hangs| format!("{why}: {hangs}"));
            unknown(code, (peer, job), &why, said_all)
        }
        Ending::Unknown { why } => unknown(code, (peer, job), why, Next::Wait),
    }
}

/// The processes of a job that survived SIGKILL, if any.
pub(crate) fn what_hangs(result: Option<&JobResult>) -> Option<String> {
    let hung = &result?.hung;
    let names = hung.iter().map(|HungProcess { pid, program }| format!("{program} (pid {pid})"));
    let verb = if hung.len() == 1 { "hangs" } else { "hang" };
    let names = names.collect::<Vec<_>>().join(", ");
    (!hung.is_empty()).then(|| format!("{names} {verb} in the kernel there and could not be stopped"))
}

/// The error for a command that ended by itself but whose output is incomplete.
pub(crate) fn was_cut(cut: &str, ending: &Ending) -> Option<CliError> {
    let counts = exit::counts_as_cut(ending);
    counts.then(|| CliError::new(exit::UNKNOWN, format!("output was cut: {cut}; the command {ending}")))
}

/// The message about output that may still come after the command's own end.
pub(crate) fn waiting_for(holders: &[OutputHolder], next: &str) -> String {
    format!("the command has ended; still waiting for the output of: {}; {next}", named(holders))
}

/// Reports which processes still hold the output of a command that has just ended.
pub(crate) fn tell_who_holds_it(peer: &PeerId, outcome: &Completion) {
    let holders = outcome.result.as_ref().map_or(&[][..], |result| &result.held_by);
    if !holders.is_empty() {
        let what = "still held the output and goes on; what it prints from now on is discarded";
        output::say(&format!("left running on {peer}: {}, which {what}", named(holders)));
    }
}

fn named(holders: &[OutputHolder]) -> String {
    let name = |holder: &OutputHolder| format!("{} (pid {})", holder.command, holder.pid);
    match holders {
        [] => "a process that cannot be seen".to_owned(),
        holders => holders.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

/// The error for an unknown end or incomplete output, with a hint where to find it.
pub(crate) fn unknown(
    code: u8,
    (peer, job): (&PeerId, JobId),
    why: &str,
    next: Next,
) -> Result<u8, CliError> {
    let next = match next {
        Next::Wait => format!("; `d wait {peer}/{job}` waits for its end, and has its code"),
        Next::Read => format!("; `d logs {peer}/{job}` shows what is kept of what it has printed"),
        Next::Ask => format!("; `nats req exec.{peer}.{job}.result ''` shows what is known of it"),
    };
    Err(CliError::new(code, format!("unknown: {why}{next}"))
        .in_known_words_for_seeds(format!("Timeout waiting for response from {peer}")))
}

/// What the user can do about an unknown end.
#[derive(Clone, Copy)]
pub(crate) enum Next {
    /// Wait: the peer may know it now or later.
    Wait,
    /// Read the log: the peer has reported all it knows, and the job's output is kept.
    Read,
    /// Ask the peer: it has reported all it knows, and no output is kept.
    Ask,
}
