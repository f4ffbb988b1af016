//! The steps of a task: which one is next, and the messages about them in the job's log.
//!
//! The log announces each step on stderr when it starts, and the step at which the task stopped, so live and
//! later readers see the same. A step starts only if the previous one succeeded and nobody has asked to stop
//! the job.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::messages::{FromShim, JobSpec, StepSpec, TaskSpec};
use super::serve::{RunningCommand, Shim, begin};
use peerbus_process::{Command, JobScope, Signal, Spec, StartError};
use peerbus_protocol::Ending;
use peerbus_protocol::frame::StreamKind;
use peerbus_protocol::task::StepProgress;

/// Longest line of a step to show, in characters.
const SHOWN: usize = 2_000;

/// The steps of a task.
#[derive(Debug)]
pub(super) struct Steps {
    /// `PEER: NAME`, the prefix of every line.
    title: String,
    at: StepProgress,
    waiting: VecDeque<StepSpec>,
    /// The job scope of the first step.
    job_scope: JobScope,
    /// The outcome if the current step succeeds: somebody has asked to stop the task.
    called_off: Option<Ending>,
    /// Whether stderr currently ends in the middle of a line.
    in_a_line: bool,
}

/// What follows a step.
enum After {
    /// The next step.
    Next(StepSpec),
    /// Nothing: all steps have succeeded.
    Nothing,
    /// Nothing: the step failed, or somebody has asked to stop the task.
    Stopped(Option<Ending>),
}

impl Steps {
    /// The steps of an order, if it is a task.
    pub(super) fn of(order: &JobSpec) -> Option<Self> {
        let TaskSpec { name, peer, of, then } = order.task.clone()?;
        Some(Self {
            title: format!("{peer}: {name}"),
            at: StepProgress { n: 1, of },
            waiting: then.into(),
            job_scope: order.job_scope.clone(),
            called_off: None,
            in_a_line: false,
        })
    }

    /// The current step.
    pub(super) fn at(&self) -> StepProgress {
        self.at
    }

    /// The job scope of the current step.
    fn job_scope(&self) -> JobScope {
        self.job_scope.of_command(self.at.n)
    }

    /// Records output of a step.
    pub(super) fn read(&mut self, stream: StreamKind, bytes: &[u8]) {
        if let (StreamKind::Err, Some(last)) = (stream, bytes.last()) {
            self.in_a_line = *last != b'\n';
        }
    }

    /// The announcement of a step.
    fn announced(&mut self, spec: &Spec) -> Bytes {
        let (StepProgress { n, of }, directory) = (self.at, readable(&spec.directory));
        let line = match &spec.command {
            Command::Shell { line, .. } => readable(line),
            Command::Argv(argv) => readable(&argv.join(" ")),
        };
        self.line(&format!("{} {n}/{of} in {directory}: {line}", self.title))
    }

    /// Adds the step to the error of a failed start.
    pub(super) fn failed(&self, error: StartError) -> StartError {
        let StepProgress { n, of } = self.at;
        StartError { message: format!("step {n} of {of}: {}", error.message), ..error }
    }

    /// Records a request to stop the job.
    pub(super) fn call_off(&mut self, ending: &Ending) {
        self.called_off.get_or_insert_with(|| ending.clone());
    }

    /// Records a signal. Interrupting a step also cancels the steps after it.
    pub(super) fn signalled(&mut self, signal: &str) {
        if signal.parse::<Signal>().is_ok_and(Signal::asks_to_end) {
            self.call_off(&Ending::Cancelled { why: "interrupted".to_owned() });
        }
    }

    /// What follows a step with this outcome.
    fn after(&mut self, ending: &Ending) -> After {
        if *ending != (Ending::Exited { code: 0 }) {
            return After::Stopped(None);
        }
        if !self.waiting.is_empty()
            && let Some(called_off) = &self.called_off
        {
            return After::Stopped(Some(called_off.clone()));
        }
        match self.waiting.pop_front() {
            Some(next) => {
                self.at.n += 1;
                After::Next(next)
            }
            None => After::Nothing,
        }
    }

    /// The message for a task that stopped early.
    fn stopped(&mut self, ending: &Ending) -> Bytes {
        let StepProgress { n, of } = self.at;
        let why = match ending {
            Ending::Exited { code } => format!("it exited {code}"),
            Ending::Signalled { signal, .. } => format!("the signal {signal} ended it"),
            Ending::TimedOut {} => "it timed out".to_owned(),
            Ending::Cancelled { why } if why == "interrupted" => "it was interrupted".to_owned(),
            Ending::Cancelled { .. } => "it was cancelled".to_owned(),
            Ending::NotStarted { .. } => "it could not be started".to_owned(),
            other => readable(&other.to_string()),
        };
        self.line(&format!("{} stopped at step {n} of {of}: {why}", self.title))
    }

    /// A line with `d`'s usual prefix.
    fn line(&mut self, text: &str) -> Bytes {
        let before = if std::mem::take(&mut self.in_a_line) { "\n" } else { "" };
        format!("{before}d: {text}\n").into()
    }
}

impl Shim {
    /// Announces a step in the log.
    pub(super) fn announce(&mut self, spec: &Spec) {
        if let Some(steps) = &mut self.steps {
            let line = steps.announced(spec);
            self.take(StreamKind::Err, line);
        }
    }

    /// The next step after a command is over. Logs a message if the task stops early.
    pub(super) fn next_step(&mut self) -> Option<StepSpec> {
        let steps = self.steps.as_mut()?;
        let called_off = match steps.after(&self.lifecycle.ending()) {
            After::Next(next) => return Some(next),
            After::Nothing => return None,
            After::Stopped(called_off) => called_off,
        };
        if let Some(ending) = called_off {
            self.lifecycle.end_as(ending);
        }
        let line = steps.stopped(&self.lifecycle.ending());
        self.take(StreamKind::Err, line);
        None
    }

    /// Starts the next step. Records its job scope first.
    pub(super) async fn go_on(&mut self, next: StepSpec) -> JoinHandle<Result<RunningCommand, StartError>> {
        let StepSpec { spec, timeout_ms } = next;
        self.lifecycle.go_on(timeout_ms.map(Duration::from_millis)).await;
        if let Some(steps) = &self.steps {
            let job_scope = steps.job_scope();
            if job_scope != self.about.job_scope {
                self.about.job_scope = job_scope;
                self.about_file.write(self.about.clone());
                self.about_file.finish().await;
            }
            self.conversation.say(&FromShim::Step(steps.at()));
        }
        self.announce(&spec);
        let job_scope = self.about.job_scope.clone();
        tokio::task::spawn_blocking(move || begin(&spec, &job_scope))
    }
}

/// On one line, without control characters.
fn readable(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let shown: String = text.chars().take(SHOWN).map(escaped).collect();
    if text.chars().nth(SHOWN).is_some() { format!("{shown}…") } else { shown }
}
