//! Tasks: shell lines that run in sequence until one fails, as one durable job.
//!
//! A task sets directory, user and environment per step, so its request must not set them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::decode::BadMessage;
use super::exec::ExecRequest;
use super::variables::Variables;

/// Longest name of a task, in characters.
const NAME_MAX: usize = 63;

/// Most steps of a task.
const STEPS_MAX: usize = 256;

/// The steps to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its name, for people.
    pub name: String,
    /// Number of steps as the caller counts them, if more follow than these; default: the number of
    /// `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
    /// The steps; at least one.
    pub steps: Vec<Step>,
}

/// One step. Its fields have the same meaning as in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The directory.
    #[serde(default)]
    pub directory: Option<String>,
    /// The shell line.
    pub shell_cmd: String,
    /// Variables to set.
    #[serde(default)]
    pub env: Variables,
    /// The user to run as.
    #[serde(default)]
    pub user: Option<String>,
    /// How long it may run, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// The progress of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepProgress {
    /// The running step, counted from 1.
    pub n: u32,
    /// Number of steps.
    pub of: u32,
}

impl Task {
    /// Number of steps, as stated.
    #[must_use]
    pub fn count(&self) -> u32 {
        let steps = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        self.of.map_or(steps, |of| of.max(steps))
    }

    /// Each step as its own request, for checks and policies.
    pub(super) fn parts<'a>(&'a self, request: &'a ExecRequest) -> impl Iterator<Item = ExecRequest> + 'a {
        self.steps.iter().map(|step| ExecRequest {
            kind: request.kind.clone(),
            id: request.id,
            directory: step.directory.clone(),
            shell_cmd: Some(step.shell_cmd.clone()),
            argv: None,
            env: step.env.clone(),
            user: step.user.clone(),
            stdin: false,
            tty: None,
            timeout_ms: step.timeout_ms,
            no_wait: false,
            durable: request.durable,
            expires_ms: request.expires_ms,
            name: None,
            task: None,
            stream: request.stream,
            from: request.from.clone(),
            within: request.within.clone(),
        })
    }

    /// Checks the shape of a request with this task.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(super) fn check(&self, request: &ExecRequest) -> Result<(), BadMessage> {
        let bad = |text: String| Err(BadMessage(text));
        let said = [
            ("shell_cmd", request.shell_cmd.is_some()),
            ("argv", request.argv.is_some()),
            ("directory", request.directory.is_some()),
            ("env", request.env.names().next().is_some()),
            ("user", request.user.is_some()),
            ("timeout_ms", request.timeout_ms.is_some()),
        ];
        if let Some((field, _)) = said.iter().find(|(_, said)| *said) {
            return bad(format!("field `{field}`: a request with a `task` says it in the steps of that"));
        }
        if request.stdin || request.tty.is_some() {
            return bad("field `task`: it has neither standard input nor a terminal".to_owned());
        }
        if !request.durable {
            return bad("field `task`: only a durable job is one".to_owned());
        }
        if self.name.is_empty() || self.name.chars().count() > NAME_MAX {
            return bad(format!("field `task.name`: 1 to {NAME_MAX} characters make one"));
        }
        if self.name.chars().any(char::is_control) {
            return bad("field `task.name`: it has characters that nobody can see".to_owned());
        }
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            return bad(format!("field `task.steps`: 1 to {STEPS_MAX} make a task"));
        }
        for (number, part) in self.parts(request).enumerate() {
            part.check().map_err(|bad| BadMessage(format!("field `task.steps[{number}]`: {bad}")))?;
        }
        Ok(())
    }
}

/// The whole task as one text, for logs and lists.
impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}: ", self.name)?;
        for (number, step) in (1..).zip(&self.steps) {
            let between = if number > 1 { "; " } else { "" };
            write!(f, "{between}{number}/{}", self.count())?;
            if let Some(directory) = &step.directory {
                write!(f, " in {directory}")?;
            }
            if let Some(user) = &step.user {
                write!(f, " as {user}")?;
            }
            write!(f, ": {}", step.shell_cmd)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(task: &str, more: &str) -> String {
        let text = format!(r#"{{"durable":true,"task":{task}{more}}}"#);
        ExecRequest::decode(text.as_bytes()).expect_err(&text).to_string()
    }

    #[test]
    fn every_mistake_names_its_field() {
        let good = r#"{"name":"a","steps":[{"shell_cmd":"x"}]}"#;
        for (task, more, named) in [
            (r#"{"name":"a","steps":[]}"#, "", "`task.steps`"),
            (r#"{"name":"","steps":[{"shell_cmd":"x"}]}"#, "", "`task.name`"),
            (r#"{"name":"a\u0007","steps":[{"shell_cmd":"x"}]}"#, "", "`task.name`"),
            (r#"{"name":"a","steps":[{"shell_cmd":"x"},{"shell_cmd":" "}]}"#, "", "`task.steps[1]`"),
            (r#"{"name":"a","steps":[{"shell_cmd":"x","directory":"y"}]}"#, "", "`directory`"),
            (r#"{"name":"a","steps":[{"shell_cmd":"x","timeout_ms":0}]}"#, "", "`timeout_ms`"),
            (good, r#","shell_cmd":"y""#, "`shell_cmd`"),
            (good, r#","env":{"A":"b"}"#, "`env`"),
            (good, r#","directory":"/""#, "`directory`"),
            (good, r#","tty":{"cols":80,"rows":24}"#, "terminal"),
        ] {
            let said = refused(task, more);
            assert!(said.contains(named), "{task}{more}: {said}");
        }
        let plain = format!(r#"{{"task":{good}}}"#);
        let said = ExecRequest::decode(plain.as_bytes()).expect_err("not durable").to_string();
        assert!(said.contains("only a durable job"), "{said}");
        ExecRequest::decode(format!(r#"{{"durable":true,"task":{good}}}"#).as_bytes()).expect("a task");
    }

    #[test]
    fn all_of_it_is_told() {
        let task = r#"{"name":"up","of":3,"steps":[{"shell_cmd":"git pull","directory":"/a"},{"shell_cmd":"make","directory":"~","user":"ann"}]}"#;
        let task: Task = serde_json::from_str(task).expect("a task");
        assert_eq!(task.to_string(), "task up: 1/3 in /a: git pull; 2/3 in ~ as ann: make");
    }
}
