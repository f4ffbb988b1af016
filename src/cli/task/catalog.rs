//! The tasks and their steps.
//!
//! `pull`, `build` and `deploy` are built in. The configuration overrides a built-in task key by
//! key.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::args::duration;
use peerbus_daemon::policy;
use peerbus_protocol::exec::check_directory;

/// The default project directory of `pull`, `build` and `deploy`.
const PROJECT: &str = "/opt/automateLinux";

/// Its build directory.
const BUILD: &str = "/opt/automateLinux/daemon";

/// The last step of `build`. It must not wait, since it ends the daemon that runs it.
const RESTART: &str = "systemctl --no-block restart peerbus.service";

/// Maximum nesting of tasks.
const DEPTH_MAX: usize = 8;

/// A configured task. Every key is optional.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Task {
    /// The directory of its steps.
    #[serde(default, deserialize_with = "directory")]
    directory: Option<String>,
    /// Shell lines.
    steps: Option<Vec<String>>,
    /// Other tasks to run instead of steps.
    tasks: Option<Vec<String>>,
    /// Environment variables of its steps.
    env: Option<BTreeMap<String, String>>,
    /// The user to run its steps.
    user: Option<String>,
    /// Timeout of each step.
    #[serde(default, deserialize_with = "time")]
    timeout: Option<Duration>,
    /// The file its steps build as the daemon's next version. A relative path is below the last
    /// step's directory.
    program: Option<String>,
}

fn directory<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    check_directory(&text).map_err(serde::de::Error::custom)?;
    Ok(Some(text))
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(&String::deserialize(from)?).map(Some).map_err(serde::de::Error::custom)
}

/// One step with all its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) directory: String,
    pub(super) line: String,
    pub(super) env: BTreeMap<String, String>,
    pub(super) user: Option<String>,
    pub(super) timeout: Option<Duration>,
}

impl Step {
    /// As JSON, without the values of variables, which may be secret.
    pub(super) fn shown(&self) -> serde_json::Value {
        serde_json::json!({
            "directory": self.directory,
            "line": self.line,
            "env": self.env.keys().collect::<Vec<_>>(),
            "user": self.user,
            "timeout_ms": self.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}

/// All tasks.
pub(super) struct TaskCatalog(BTreeMap<String, Task>);

impl TaskCatalog {
    /// The built-in tasks, overridden by the configured ones.
    pub(super) fn of(configured: BTreeMap<String, Task>) -> Self {
        let mut tasks = built_in();
        for (name, task) in configured {
            let known = tasks.remove(&name).unwrap_or_default();
            // A task has steps or tasks: configuring one removes the other.
            let (steps, parts) = match (task.steps, task.tasks) {
                (None, None) => (known.steps, known.tasks),
                configured => configured,
            };
            let task = Task {
                directory: task.directory.or(known.directory),
                steps,
                tasks: parts,
                env: task.env.or(known.env),
                user: task.user.or(known.user),
                timeout: task.timeout.or(known.timeout),
                program: task.program.or(known.program),
            };
            tasks.insert(name, task);
        }
        Self(tasks)
    }

    /// The names, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// All steps of a task, including those of nested tasks, in order.
    pub(super) fn steps(&self, name: &str) -> Result<Vec<Step>, String> {
        self.unfold(name, 0)
    }

    /// The absolute path of the built program: the task's own, else that of its last part that has
    /// one.
    pub(super) fn program(&self, name: &str) -> Option<String> {
        self.program_within(name, 0)
    }

    fn program_within(&self, name: &str, depth: usize) -> Option<String> {
        let task = self.0.get(name).filter(|_| depth <= DEPTH_MAX)?;
        let Some(program) = &task.program else {
            let parts = task.tasks.iter().flatten().rev();
            return parts.into_iter().find_map(|part| self.program_within(part, depth + 1));
        };
        let directory = self.steps(name).ok()?.pop()?.directory;
        // Joined as text, since the directory may begin with `~`.
        Some(if program.starts_with(['/', '~']) { program.clone() } else { format!("{directory}/{program}") })
    }

    fn unfold(&self, name: &str, depth: usize) -> Result<Vec<Step>, String> {
        let Some(task) = self.0.get(name) else {
            let known = self.names().collect::<Vec<_>>().join(", ");
            return Err(format!("there is no task {name:?}; there are: {known}"));
        };
        if depth > DEPTH_MAX {
            return Err(format!("the task {name:?} is made of itself, or of more than {DEPTH_MAX} layers"));
        }
        match (&task.steps, &task.tasks) {
            (Some(lines), None) => self.own_steps(name, task, lines),
            (None, Some(parts)) => {
                let steps = parts.iter().map(|part| self.unfold(part, depth + 1));
                Ok(steps.collect::<Result<Vec<_>, _>>()?.concat())
            }
            (Some(_), Some(_)) => Err(format!("the task {name:?} has both steps and tasks; one is wanted")),
            (None, None) => Err(format!("the task {name:?} has neither steps nor tasks")),
        }
    }

    fn own_steps(&self, name: &str, task: &Task, lines: &[String]) -> Result<Vec<Step>, String> {
        let Some(directory) = &task.directory else {
            return Err(format!("the task {name:?} names no directory to run in"));
        };
        if lines.is_empty() {
            return Err(format!("the task {name:?} has no steps"));
        }
        let step = |line: &String| Step {
            directory: directory.clone(),
            line: line.clone(),
            env: task.env.clone().unwrap_or_default(),
            user: task.user.clone(),
            timeout: task.timeout,
        };
        Ok(lines.iter().map(step).collect())
    }
}

/// All tasks, in the form a policy uses.
pub(crate) fn of_policy(configured: BTreeMap<String, Task>) -> policy::Tasks {
    let book = TaskCatalog::of(configured);
    let steps = |name: &str| {
        let steps = book.steps(name)?.into_iter();
        Ok(steps
            .map(|Step { directory, line, env, user, .. }| policy::Step { directory, line, env, user })
            .collect())
    };
    book.names().map(|name| (name.to_owned(), steps(name))).collect()
}

fn built_in() -> BTreeMap<String, Task> {
    let steps = |directory: &str, lines: &[&str]| Task {
        directory: Some(directory.to_owned()),
        steps: Some(lines.iter().map(ToString::to_string).collect()),
        ..Task::default()
    };
    let deploy = Task { tasks: Some(vec!["pull".to_owned(), "build".to_owned()]), ..Task::default() };
    [
        ("pull", steps(PROJECT, &["git pull"])),
        ("build", steps(BUILD, &["source ./build.sh", RESTART])),
        ("deploy", deploy),
    ]
    .map(|(name, task)| (name.to_owned(), task))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(toml: &str) -> TaskCatalog {
        TaskCatalog::of(toml::from_str(toml).expect(toml))
    }

    fn lines(book: &TaskCatalog, name: &str) -> Vec<(String, String)> {
        let steps = book.steps(name).expect(name);
        steps.into_iter().map(|step| (step.directory, step.line)).collect()
    }

    #[test]
    fn deploying_is_pulling_and_building() {
        let book = book("");
        let all = [lines(&book, "pull"), lines(&book, "build")].concat();
        assert_eq!(lines(&book, "deploy"), all);
        assert_eq!(all[0], (PROJECT.to_owned(), "git pull".to_owned()));
        assert_eq!(all.last(), Some(&(BUILD.to_owned(), RESTART.to_owned())));
    }

    #[test]
    fn configuration_replaces_key_by_key() {
        let book = book("pull.directory = '/srv/app'\nbuild.tasks = ['pull']\nbuild.timeout = '5s'");
        assert_eq!(lines(&book, "pull"), [("/srv/app".to_owned(), "git pull".to_owned())]);
        assert_eq!(lines(&book, "build"), lines(&book, "pull"));
        assert_eq!(lines(&book, "deploy").len(), 2);
    }

    #[test]
    fn a_task_that_cannot_be_run_says_what_is_wrong() {
        for (toml, name, said) in [
            ("", "pul", "there is no task \"pul\"; there are: build, deploy, pull"),
            ("a.tasks = ['b']\nb.tasks = ['a']", "a", "made of itself"),
            ("a.steps = ['x']", "a", "names no directory"),
            ("a.directory = '/'", "a", "neither steps nor tasks"),
            ("a = { directory = '/', steps = [] }", "a", "has no steps"),
            ("a = { directory = '/', steps = ['x'], tasks = ['pull'] }", "a", "both"),
            ("a.tasks = ['gone']", "a", "no task \"gone\""),
        ] {
            let why = book(toml).steps(name).expect_err(toml);
            assert!(why.contains(said), "{why}");
        }
        toml::from_str::<BTreeMap<String, Task>>("a.directory = 'relative'").expect_err("relative");
        toml::from_str::<BTreeMap<String, Task>>("a.step = ['x']").expect_err("unknown key");
    }
}
