//! What is said of the end of a command, and where to find out what is not known here.

use super::{Streams, Written};
use crate::exit::{self, CliError};
use crate::output;
use peerbus_client::exec::{Completion, Integrity};
use peerbus_protocol::ending::StartFailure;
use peerbus_protocol::exec::{HungProcess, JobResult, OutputHolder};
use peerbus_protocol::{Ending, JobId, PeerId};

/// Says what is to be said of the end, and gives the code. `is_kept` says whether the peer keeps what the job prints.
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
    // An end that is worse, or that came before any input, says more.
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

/// What of a job even KILL did not end, where there is any.
pub(crate) fn what_hangs(result: Option<&JobResult>) -> Option<String> {
    let hung = &result?.hung;
    let names = hung.iter().map(|HungProcess { pid, program }| format!("{program} (pid {pid})"));
    let verb = if hung.len() == 1 { "hangs" } else { "hang" };
    let names = names.collect::<Vec<_>>().join(", ");
    (!hung.is_empty()).then(|| format!("{names} {verb} in the kernel there and could not be stopped"))
}

/// What is said of a command that ended by itself, where output is missing that was still to come.
pub(crate) fn was_cut(cut: &str, ending: &Ending) -> Option<CliError> {
    let counts = exit::counts_as_cut(ending);
    counts.then(|| CliError::new(exit::UNKNOWN, format!("output was cut: {cut}; the command {ending}")))
}

/// What is said where output is still to come after the command's own end.
pub(crate) fn waiting_for(holders: &[OutputHolder], next: &str) -> String {
    format!("the command has ended; still waiting for the output of: {}; {next}", named(holders))
}

/// Says what goes on with the output of a command that has just ended.
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

/// Nobody here knows how it ended, or what it has printed: where that may be found out.
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

/// What there is to be done about an end that nobody here knows.
#[derive(Clone, Copy)]
pub(crate) enum Next {
    /// The peer may know it, or will.
    Wait,
    /// The peer has said all it knows; what the job has printed is kept.
    Read,
    /// The peer has said all it knows, and keeps nothing more.
    Ask,
}
