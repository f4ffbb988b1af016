//! What to run, where and as whom; and start errors.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use peerbus_protocol::decode;
use peerbus_protocol::ending::{StartFailure, sentence};
use peerbus_protocol::{Ending, JobId, TtySize};

/// A command to start. The caller has resolved everything except user, home and directory.
#[derive(Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Its job.
    pub job: JobId,
    /// An absolute path, `~`, or a path that begins with `~/`, for the home of the job's user.
    pub directory: String,
    /// Whether its path may contain symbolic links.
    pub links: Links,
    /// What to run.
    pub command: Command,
    /// Added to the clean environment; overrides it. Should include `PEERBUS_JOB`, which identifies the job's
    /// processes if its reaper was killed.
    pub env: Vec<(String, String)>,
    /// The user to run it as; `None` means the daemon's own user.
    pub user: Option<String>,
    /// The source of its stdin. With a terminal, input always works.
    pub stdin: Stdin,
    /// The size of its terminal; `None` for pipes.
    #[serde(default)]
    pub tty: Option<TtySize>,
    /// Time limit until it runs, if shorter than the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within: Option<Duration>,
}

/// Shows only the names of variables, because their values are often secrets.
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
    /// Program and arguments, unchanged.
    Argv(Vec<String>),
    /// A command line for a shell, run with `-c`.
    Shell {
        /// The shell; by default bash if available, otherwise `/bin/sh`.
        shell: Option<PathBuf>,
        /// The command line.
        line: String,
    },
}

/// Whether the path of a directory may contain symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Links {
    /// It may: the command runs wherever they lead.
    Followed,
    /// The path is canonical (see [`find_real_directory`](super::find_real_directory)). The command runs
    /// there or not at all, even if the path changes meanwhile.
    Refused,
}

/// The source of a job's stdin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// None: end of file at once.
    Null,
    /// A pipe that the caller writes to.
    Pipe,
}

/// Why a command could not be started. Nothing ran, unless `may_have_run` is set.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct StartError {
    /// The failure code.
    pub why: StartFailure,
    /// Names the directory, command or user, and the system's error.
    pub message: String,
    /// Whether it may have run nevertheless. Then the message tells whether it was stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_have_run: bool,
}

impl StartError {
    pub(super) fn new(why: StartFailure, message: impl Into<String>) -> Self {
        Self { why, message: decode::readable(&message.into()), may_have_run: false }
    }

    /// A system error with a given message.
    pub fn of_system(message: impl Into<String>) -> Self {
        Self::new(StartFailure::System, message)
    }

    /// For an error after the command was or may have been executed.
    pub(super) fn too_late(doing: &str, error: &std::io::Error) -> Self {
        Self { may_have_run: true, ..Self::system(doing, error) }
    }

    /// The outcome of a job that failed to start.
    #[must_use]
    pub fn ending(self) -> Ending {
        let Self { why, message, may_have_run } = self;
        match may_have_run {
            true => Ending::Unknown { why: sentence(format!("it may have run: {message}")) },
            false => Ending::NotStarted { why, message: sentence(message) },
        }
    }

    /// For an error that is not caused by the directory, the command or the user.
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
