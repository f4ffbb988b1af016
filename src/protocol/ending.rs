//! All ways a job can end: a closed set.
//!
//! For a command sent to many peers, the counts of all endings always add up to the number of targets.
//! So every outcome must be one of these.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How a job ended, or why it never started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The command ran and exited by itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: i32,
    },
    /// A signal ended the command.
    Signalled {
        /// Name without `SIG`, such as `KILL`.
        signal: String,
        /// Its number on the peer.
        number: i32,
    },
    /// The request's time limit expired; the peer stopped the whole process tree.
    TimedOut {},
    /// Someone cancelled the job; the peer stopped the whole process tree.
    Cancelled {
        /// By whom or why, for people.
        why: String,
    },
    /// The peer refused the request. Nothing ran.
    Refused {
        /// The reason, for programs.
        why: Refusal,
        /// The reason, for people.
        message: String,
    },
    /// The peer accepted the request, but could not start the command. Nothing ran.
    NotStarted {
        /// The reason, for programs.
        why: StartFailure,
        /// The reason, for people.
        message: String,
    },
    /// The peer is not on the bus. Nothing ran.
    Offline {},
    /// It is unknown whether or how the job ended.
    Unknown {
        /// What is known, for people.
        why: String,
    },
}

/// Why a peer refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The request is malformed.
    BadRequest,
    /// The reply subject is missing, or is not an inbox.
    ReplySubject,
    /// This version does not support the request.
    NotSupported,
    /// Neither the request nor the peer's configuration names a directory.
    NoDirectory,
    /// The peer's policy does not allow it for this principal.
    Policy,
    /// The daemon cannot run commands as that user.
    User,
    /// The peer already runs the most jobs it may.
    Limit,
    /// Two daemons use this peer's id.
    Conflict,
    /// The daemon is stopping.
    Stopping,
    /// The journal is not writable, so the daemon cannot guarantee to run the job once.
    Journal,
    /// The job was cancelled before its request arrived.
    CancelledBefore,
    /// Another caller's job has this id.
    NotYours,
    /// Another running job has this name.
    Taken,
    /// The job would display its own output, directly or through others.
    Loop,
    /// The sender is not proven to be a member of the fleet.
    Unproven,
    /// The request expired in the queue, or waited longer than the peer remembers ids.
    Expired,
    /// The job ends with its daemon and has no log, so attaching is impossible. Only the client returns
    /// this.
    NotDurable,
    /// The peer does not know the job. Only the client returns this.
    NoSuchJob,
}

/// Why a command could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFailure {
    /// The directory does not exist.
    NoSuchDirectory,
    /// The path is not a directory.
    NotADirectory,
    /// The job's user has no access to the directory.
    DirectoryDenied,
    /// The user does not exist on the peer.
    NoSuchUser,
    /// The command does not exist.
    CommandNotFound,
    /// The command is not executable.
    NotExecutable,
    /// The system could not create the process.
    System,
    /// The request surely did not reach the peer.
    NeverArrived,
    /// The peer does not exist. Only the client returns this.
    NoSuchPeer,
    /// The bus, or a necessary leader, is unreachable. Only the client returns this.
    BusUnreachable,
}

impl Ending {
    /// Whether the command ran and exited with code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::Exited { code: 0 }
    }
}

/// Shortens a sentence that quotes foreign text, so that the answer fits into a message.
#[must_use]
pub fn sentence(mut text: String) -> String {
    const MOST: usize = 2048;
    if text.len() > MOST {
        text.truncate(text.floor_char_boundary(MOST));
        text.push('…');
    }
    text
}

/// An error with its causes, in one sentence. Skips a cause that the error's own text already contains.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        let said = below.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = below.source();
    }
    text
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited with code {code}"),
            Self::Signalled { signal, number } => write!(f, "ended by signal {signal} ({number})"),
            Self::TimedOut {} => f.write_str("timed out"),
            Self::Cancelled { why } => write!(f, "cancelled: {why}"),
            Self::Refused { message, .. } => write!(f, "refused: {message}"),
            Self::NotStarted { message, .. } => write!(f, "not started: {message}"),
            Self::Offline {} => f.write_str("offline"),
            Self::Unknown { why } => write!(f, "unknown: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{what}{}", if *quotes { format!(": {source}") } else { String::new() })]
    struct Failed {
        what: &'static str,
        quotes: bool,
        source: std::io::Error,
    }

    #[test]
    fn no_cause_is_said_twice() {
        for quotes in [false, true] {
            let source = std::io::Error::from_raw_os_error(21);
            let said = with_causes(&Failed { what: "reading /tmp", quotes, source });
            assert_eq!(said, "reading /tmp: Is a directory (os error 21)");
        }
    }
}
