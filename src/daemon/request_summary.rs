//! Summary of a job for the log and the audit log: who requested what, where, as which user, and the outcome. The
//! log gets one line per job, when it has ended or was refused.
//!
//! Texts come from the caller, cut to a readable length. Only the names of variables appear. `by` is who signed the
//! request, if members sign. `from` is the caller's own claim and proves nothing. `caller` is its inbox, where the
//! answers went.

use std::collections::BTreeSet;

use super::audit::Audit;
use super::context::Context;
use super::journal::StartRecord;
use super::request::Request;
use peerbus_protocol::audit::{self, AuditDecision, AuditedOutcome};
use peerbus_protocol::control::Control;
use peerbus_protocol::exec::{Command, JobResult, quoted};
use peerbus_protocol::identity::{Name, Principal, Standing};
use peerbus_protocol::{Ending, JobId};

/// Longest text of a command that is written to the journal and the log, in characters.
const COMMAND_SHOWN: usize = 300;
/// The same for a directory, an ending, and the names of all variables.
const TEXT_SHOWN: usize = 300;
/// The same for a name.
const NAME_SHOWN: usize = 120;
/// Longest text of a command in the audit log, in characters.
const COMMAND_AUDITED: usize = 4_096;
/// Most names of variables there; each is cut as a name is.
const VARIABLES_AUDITED: usize = 100;

/// A request, as far as the log says it.
#[derive(Debug)]
pub(super) struct RequestSummary {
    job: JobId,
    /// The proved identity of the caller.
    by: Option<String>,
    from: Option<String>,
    caller: String,
    command: String,
    env: Option<String>,
    directory: Option<String>,
    user: Option<String>,
    /// The same for the audit log, which has room for more.
    audited: audit::AuditedRequest,
}

/// One line of that, at a level.
macro_rules! line {
    ($level:ident, $asked:expr, $ending:expr, $($more:tt)*) => {{
        let RequestSummary { job, by, from, caller, command, env, directory, user, .. } = $asked;
        let ending = cut(&$ending.to_string(), TEXT_SHOWN);
        tracing::$level!(
            %job, by, from, caller, command, env, directory, user, ending, $($more)*
        )
    }};
}

impl RequestSummary {
    /// What this request asks for.
    pub(super) fn by(context: &Context, request: &Request) -> Self {
        let exec = &request.exec;
        // Of a task: all of its lines, all names, and else what its first step says.
        let parts = exec.parts();
        let first = parts.first().unwrap_or(exec);
        let directory = first.directory.as_ref().or(context.settings.directory.as_ref());
        let names: BTreeSet<&str> = parts.iter().flat_map(|part| part.env.names()).collect();
        let shown_names = names.iter().copied().collect::<Vec<_>>().join(",");
        let command = match &exec.task {
            Some(task) => Some(Command::Shell(task.to_string())),
            None => exec.command().ok(),
        };
        let asked = Self {
            job: request.id,
            by: Some(&request.principal)
                .filter(|principal| **principal != Principal::Anyone)
                .map(Principal::to_string),
            from: exec.from.as_deref().map(name),
            caller: name(&request.caller),
            command: command.as_ref().map(shown).unwrap_or_default(),
            env: Some(cut(&shown_names, TEXT_SHOWN)).filter(|names| !names.is_empty()),
            directory: directory.map(|directory| cut(directory, TEXT_SHOWN)),
            user: Some(name(first.user.as_ref().unwrap_or(&context.own_user))),
            audited: no_more_than_the_id(request.id),
        };
        let (command, command_blake3) = command.as_ref().map(audited).unwrap_or_default();
        let (principal, standing) = match request.principal.clone() {
            Principal::Known { name, standing } => (Some(name), Some(standing)),
            Principal::Anyone => (None, None),
        };
        let audited = audit::AuditedRequest {
            principal,
            standing,
            command,
            command_blake3,
            env: names.iter().take(VARIABLES_AUDITED).map(name).collect(),
            env_left_out: names.len().saturating_sub(VARIABLES_AUDITED) as u64,
            ..asked.as_logged()
        };
        Self { audited, ..asked }
    }

    /// The summary of a journal record.
    pub(super) fn recorded(begun: &StartRecord) -> Self {
        let asked = Self {
            job: begun.id,
            by: begun.principal.as_ref().map(ToString::to_string),
            from: begun.from.clone(),
            caller: begun.caller.clone(),
            command: begun.command.clone(),
            env: None,
            directory: Some(begun.directory.clone()).filter(|directory| !directory.is_empty()),
            user: begun.user.clone(),
            audited: no_more_than_the_id(begun.id),
        };
        let (principal, standing) = (begun.principal.clone(), begun.standing);
        let audited = audit::AuditedRequest { principal, standing, ..asked.as_logged() };
        Self { audited, ..asked }
    }

    /// Adds the policy rules that allow it: one, or several for a task.
    pub(super) fn allowed_by(self, rules: &BTreeSet<usize>) -> Self {
        let rules = rules.iter().map(|rule| format!("rule {rule}")).collect::<Vec<_>>().join(", ");
        Self { audited: audit::AuditedRequest { rule: Some(rules), ..self.audited }, ..self }
    }

    /// For the audit log, what the log says.
    fn as_logged(&self) -> audit::AuditedRequest {
        audit::AuditedRequest {
            from: self.from.clone(),
            caller: self.caller.clone(),
            command: self.command.clone(),
            directory: self.directory.clone(),
            user: self.user.clone(),
            ..no_more_than_the_id(self.job)
        }
    }

    /// Says in the audit log that it was allowed. Returns when that is written.
    ///
    /// # Errors
    /// When it is to be refused because that cannot be written.
    pub(super) async fn begun(&self, audit: &Audit) -> Result<(), String> {
        audit.begun(self.audited.clone()).await
    }

    /// Who asked, as far as it is proved.
    pub(super) fn principal(&self) -> (Option<Name>, Option<Standing>) {
        (self.audited.principal.clone(), self.audited.standing)
    }

    /// What was to run, shortened. May hold any character.
    pub(super) fn command(&self) -> &str {
        &self.command
    }

    /// Logs how it ended.
    pub(super) async fn ended(&self, audit: &Audit, result: &JobResult) {
        let bytes = |total: &Option<peerbus_protocol::exec::StreamTotal>| total.as_ref().map(|it| it.bytes);
        let (out, err, duration_ms) = (bytes(&result.out), bytes(&result.err), result.duration_ms);
        let (killed, left_running) = (result.killed, result.left_running);
        match &result.ending {
            Ending::Unknown { .. } => {
                line!(warn, self, result.ending, out, err, duration_ms, killed, left_running, "ended");
            }
            _ => line!(info, self, result.ending, out, err, duration_ms, killed, left_running, "ended"),
        }
        audit.ended(self.audited.clone(), outcome(result)).await;
    }

    /// Logs that it was refused.
    pub(super) async fn refused(&self, audit: &Audit, ending: &Ending) {
        line!(warn, self, ending, "refused a request");
        let request = audit::AuditedRequest { decision: AuditDecision::Refused, ..self.audited.clone() };
        audit.refused(request, ending.clone()).await;
    }

    /// Logs the job of a dead daemon and what was found of it.
    pub(super) async fn found_dead(&self, audit: &Audit, result: &JobResult) {
        let (ending, killed) = (&result.ending, result.killed);
        line!(warn, self, ending, killed, "ended a dead daemon's job");
        audit.ended(self.audited.clone(), outcome(result)).await;
    }
}

/// What the audit log says of an end.
fn outcome(result: &JobResult) -> AuditedOutcome {
    let bytes = |total: &Option<peerbus_protocol::exec::StreamTotal>| total.as_ref().map(|it| it.bytes);
    AuditedOutcome {
        ending: result.ending.clone(),
        out: bytes(&result.out),
        err: bytes(&result.err),
        duration_ms: result.duration_ms,
        killed: result.killed,
        left_running: result.left_running,
    }
}

fn no_more_than_the_id(job: JobId) -> audit::AuditedRequest {
    audit::AuditedRequest {
        job,
        principal: None,
        standing: None,
        from: None,
        caller: String::new(),
        command: String::new(),
        command_blake3: None,
        env: Vec::new(),
        env_left_out: 0,
        directory: None,
        user: None,
        decision: AuditDecision::Allowed,
        rule: None,
    }
}

/// A command for the audit log, and the digest of all of it where it is cut.
fn audited(command: &Command) -> (String, Option<String>) {
    let whole = match command {
        Command::Shell(line) => line.clone(),
        Command::Argv(argv) => argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    };
    let short = cut(&whole, COMMAND_AUDITED);
    let digest = (short != whole).then(|| blake3::hash(whole.as_bytes()).to_hex().to_string());
    (short, digest)
}

/// A command as it is shown to people: arguments in quotes where they need some, and not too long.
pub(super) fn shown(command: &Command) -> String {
    match command {
        Command::Shell(line) => cut(line, COMMAND_SHOWN),
        Command::Argv(argv) => {
            // What would be cut off anyway need not be put together.
            let words: Vec<String> = argv.iter().take(COMMAND_SHOWN).map(|word| quoted(word)).collect();
            cut(&words.join(" "), COMMAND_SHOWN)
        }
    }
}

/// What somebody does with a job that is there, for the audit log. What is typed is nobody's business.
#[derive(Debug, Clone, Copy)]
pub(super) enum ControlSummary<'a> {
    /// Begins to follow it.
    AttachToRead,
    /// Begins to follow it, and may type.
    AttachToWrite,
    /// Has typed something for the first time since.
    Typed,
    /// Sends it this signal.
    Signal(&'a str),
    /// Has it stopped, for this reason.
    Stop(&'a str),
    /// Gives it this name.
    Rename(&'a str),
    /// Has everybody leave it.
    Detach,
}

impl<'a> ControlSummary<'a> {
    /// What a word would do to its job; none where the log has no line for that.
    pub(super) fn of(word: &'a Control) -> Option<Self> {
        Some(match word {
            Control::Attach(attach) if attach.write => Self::AttachToWrite,
            Control::Resume(resume) if resume.write => Self::AttachToWrite,
            Control::Attach(_) | Control::Resume(_) => Self::AttachToRead,
            Control::Stdin { .. } => Self::Typed,
            Control::Signal(signal) => Self::Signal(&signal.signal),
            Control::Cancel(cancel) => Self::Stop(cancel.why.as_deref().unwrap_or("asked to")),
            Control::Rename(rename) => Self::Rename(&rename.name),
            Control::Detach(_) => Self::Detach,
            Control::Credit(_) | Control::Resize(_) | Control::Release(_) | Control::Result => return None,
        })
    }

    /// The line of it. `owner` is whose job it is, where that is known.
    pub(super) fn by(
        self,
        job: JobId,
        caller: &str,
        principal: &Principal,
        owner: Option<&Principal>,
    ) -> audit::AuditedControl {
        let (word, detail) = match self {
            Self::AttachToRead => ("attach", Some("read")),
            Self::AttachToWrite => ("attach", Some("write")),
            Self::Typed => ("typed", None),
            Self::Signal(signal) => ("signal", Some(signal)),
            Self::Stop(why) => ("stop", Some(why)),
            Self::Rename(to) => ("rename", Some(to)),
            Self::Detach => ("detach", None),
        };
        let (principal, standing) = match principal.clone() {
            Principal::Known { name, standing } => (Some(name), Some(standing)),
            Principal::Anyone => (None, None),
        };
        let owner = match owner {
            Some(Principal::Known { name, .. }) => Some(name.clone()),
            _ => None,
        };
        let (caller, detail) = (name(caller), detail.map(|text| cut(text, TEXT_SHOWN)));
        audit::AuditedControl { job, principal, standing, owner, caller, word: word.to_owned(), detail }
    }
}

/// A name, of a length that names have.
pub(super) fn name(text: impl AsRef<str>) -> String {
    cut(text.as_ref(), NAME_SHOWN)
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_apart() {
        let argv = ["git", "log", "-m", "two words", "", "it's"].map(str::to_owned).to_vec();
        assert_eq!(shown(&Command::Argv(argv)), r"git log -m 'two words' '' 'it'\''s'");
        assert_eq!(shown(&Command::Shell("a && b".to_owned())), "a && b");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = shown(&Command::Shell("ü".repeat(100_000)));
        assert_eq!(long, format!("{}…", "ü".repeat(COMMAND_SHOWN)));
        assert_eq!(name("short"), "short");
    }
}
