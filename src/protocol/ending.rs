//! Every way a job can end: one closed set.
//!
//! For a command sent to many peers the counts of the endings add up to the number of targets,
//! always; so nothing may end in a way that is not in here.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How a job ended, or why it never began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The command ran and exited by itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: i32,
    },
    /// The command was ended by a signal.
    Signalled {
        /// Name without `SIG`, as in `KILL`.
        signal: String,
        /// Its number on the peer.
        number: i32,
    },
    /// The time limit that came with the request was reached; the whole tree was stopped.
    TimedOut {},
    /// The job was stopped on purpose; the whole tree was stopped.
    Cancelled {
        /// By whom or what, for people.
        why: String,
    },
    /// The peer declined the request. Nothing ran.
    Refused {
        /// One fixed word.
        why: Refusal,
        /// The sentence for people.
        message: String,
    },
    /// The peer was willing, but the command could not be started. Nothing ran.
    NotStarted {
        /// One fixed word.
        why: StartFailure,
        /// The sentence for people.
        message: String,
    },
    /// The peer is not on the bus. Nothing ran.
    Offline {},
    /// Nobody can say whether, or how, the job ended.
    Unknown {
        /// What is known, for people.
        why: String,
    },
}

/// Why a peer declined, as one fixed word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The request is malformed.
    BadRequest,
    /// The reply subject is missing or no inbox.
    ReplySubject,
    /// The request asks for something this version cannot do.
    NotSupported,
    /// Neither the request nor the peer's configuration names a directory.
    NoDirectory,
    /// The peer's policy does not let whoever asks do this.
    Policy,
    /// The daemon may not run commands as that user.
    User,
    /// The peer runs as many jobs as it may.
    Limit,
    /// Two daemons hold this peer's id.
    Conflict,
    /// The daemon is stopping.
    Stopping,
    /// The journal cannot be written, so the promise to run once cannot be kept.
    Journal,
    /// The job was cancelled before its request arrived.
    CancelledBefore,
    /// Another caller's job has this id.
    NotYours,
    /// Another session, which has not ended, has this name.
    Taken,
    /// The job would show itself: it is followed, over whichever others, from within itself.
    Loop,
    /// Nobody of the fleet is proved to have asked.
    Unproven,
    /// It waited in the queue until its time was over, or longer than the peer remembers ids.
    Expired,
    /// The job ends with its daemon and has no log, so nobody can attach to it. Said by the calling end.
    NotDurable,
    /// The peer knows no such job. Said by the calling end.
    NoSuchJob,
}

/// Why a command could not be started, as one fixed word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFailure {
    /// The directory does not exist.
    NoSuchDirectory,
    /// The directory is something else, a file for instance.
    NotADirectory,
    /// The job's user may not enter the directory.
    DirectoryDenied,
    /// There is no such user on the peer.
    NoSuchUser,
    /// There is no such command.
    CommandNotFound,
    /// The command is not executable.
    NotExecutable,
    /// The system could not make the process.
    System,
    /// The request surely never reached the peer.
    NeverArrived,
    /// There is no such peer. Said by the calling end.
    NoSuchPeer,
    /// The bus, or the leader where it is needed, cannot be reached. Said by the calling end.
    BusUnreachable,
}

impl Ending {
    /// Whether the command ran and exited with code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::Exited { code: 0 }
    }
}

/// Cuts a sentence that quotes somebody's text, so that it can always be sent: an answer larger than
/// the server takes would be none.
#[must_use]
pub fn sentence(mut text: String) -> String {
    const MOST: usize = 2048;
    if text.len() > MOST {
        text.truncate(text.floor_char_boundary(MOST));
        text.push('…');
    }
    text
}

/// An error with its causes, in one sentence. Many errors quote their cause in their own text; it is not said again.
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
