//! What to run, where, and as whom; and why that could not be done.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use peerbus_protocol::decode;
use peerbus_protocol::ending::{StartFailure, sentence};
use peerbus_protocol::{Ending, JobId, TtySize};

/// One command to start. The caller has resolved everything but user, home and directory.
#[derive(Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The job it is for.
    pub job: JobId,
    /// Absolute, or `~`, or beginning with `~/`, for the home of the job's user.
    pub directory: String,
    /// Whether the way there may lead over links.
    pub links: Links,
    /// What to run.
    pub command: Command,
    /// Added to the clean environment, and stronger than it. `PEERBUS_JOB` should be among them: it
    /// is how the rest of a job is found when its reaper was killed.
    pub env: Vec<(String, String)>,
    /// Whom to run it as; `None` is the daemon's own user.
    pub user: Option<String>,
    /// What the command reads; a terminal is written to in any case.
    pub stdin: Stdin,
    /// The terminal it runs in, instead of pipes.
    #[serde(default)]
    pub tty: Option<TtySize>,
    /// How long it may take until it runs, where that is less than anybody would wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within: Option<Duration>,
}

/// The values of variables are often secrets, so their names are shown alone.
impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { job, directory, links, command, env, user, stdin, tty, start_within } = self;
        let names: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Spec")
            .field("job", job)
            .field("directory", directory)
            .field("links", links)
            .field("command", command)
            .field("env", &names)
            .field("user", user)
            .field("stdin", stdin)
            .field("tty", tty)
            .field("start_within", start_within)
            .finish()
    }
}

/// How the command is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Program and arguments, exactly as they are.
    Argv(Vec<String>),
    /// A line for a shell, run with `-c`.
    Shell {
        /// Which shell; by default bash where there is one, else `/bin/sh`.
        shell: Option<PathBuf>,
        /// What it shall do.
        line: String,
    },
}

/// Whether the way to a directory may lead over links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Links {
    /// It may: wherever they lead, there the command runs.
    Followed,
    /// The directory is named as the system itself names it (see [`find_real_directory`](super::find_real_directory)),
    /// and the command runs there and nowhere else, whatever became of the way meanwhile.
    Refused,
}

/// Where the standard input of a job comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// There is none: it is at its end at once.
    Null,
    /// Its caller writes it.
    Pipe,
}

/// Why a command could not be started. Nothing of it ran, unless it is said that it may have.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct StartError {
    /// One fixed word.
    pub why: StartFailure,
    /// Names the directory, command or user, and what the system said.
    pub message: String,
    /// Whether it may have run all the same; the message says then whether it was stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_have_run: bool,
}

impl StartError {
    pub(super) fn new(why: StartFailure, message: impl Into<String>) -> Self {
        Self { why, message: decode::readable(&message.into()), may_have_run: false }
    }

    /// The same in words of another's.
    pub fn of_system(message: impl Into<String>) -> Self {
        Self::new(StartFailure::System, message)
    }

    /// For what went wrong when it was executed already, or may have been.
    pub(super) fn too_late(doing: &str, error: &std::io::Error) -> Self {
        Self { may_have_run: true, ..Self::system(doing, error) }
    }

    /// How a job ended that came no further.
    #[must_use]
    pub fn ending(self) -> Ending {
        let Self { why, message, may_have_run } = self;
        match may_have_run {
            true => Ending::Unknown { why: sentence(format!("it may have run: {message}")) },
            false => Ending::NotStarted { why, message: sentence(message) },
        }
    }

    /// For what is neither the directory's, nor the command's, nor the user's fault.
    pub(super) fn system(doing: &str, error: &std::io::Error) -> Self {
        Self::new(StartFailure::System, format!("{doing}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_variables_are_not_shown() {
        let spec = Spec {
            job: JobId::new(),
            directory: "/".to_owned(),
            links: Links::Followed,
            command: Command::Argv(vec!["true".to_owned()]),
            env: vec![("NAME".to_owned(), "secret".to_owned())],
            user: None,
            stdin: Stdin::Null,
            tty: None,
            start_within: None,
        };
        let shown = format!("{spec:?}");
        assert!(shown.contains("NAME") && !shown.contains("secret"), "{shown}");
    }
}
