//! What the log says of a job: who asked for what, where, as whom, and what became of it. One line
//! a job, when it has ended or was refused.
//!
//! Texts are the caller's own, cut to a length that can be read; the log makes one line of them
//! whatever they hold. Of variables only the names are said. `by` is who signed the request, where members
//! sign. `from` is the caller's word for itself and proves nothing; `caller`, its inbox, is at least where the answers went.

use super::context::Context;
use super::exec::Request;
use super::journal::Begun;
use crate::protocol::exec::{Command, JobResult};
use crate::protocol::identity::Asker;
use crate::protocol::{Ending, JobId};

/// Longest text of a command that is written to the journal and the log, in characters.
const COMMAND_SHOWN: usize = 300;
/// The same for a directory, an ending, and the names of all variables.
const TEXT_SHOWN: usize = 300;
/// The same for a name.
const NAME_SHOWN: usize = 120;

/// A request, as far as the log says it.
#[derive(Debug)]
pub(super) struct Asked {
    job: JobId,
    /// Who asked, where that is proved.
    by: Option<String>,
    from: Option<String>,
    caller: String,
    command: String,
    env: Option<String>,
    directory: Option<String>,
    user: Option<String>,
}

/// One line of that, at a level.
macro_rules! line {
    ($level:ident, $asked:expr, $ending:expr, $($more:tt)*) => {{
        let Asked { job, by, from, caller, command, env, directory, user } = $asked;
        let ending = cut(&$ending.to_string(), TEXT_SHOWN);
        tracing::$level!(
            %job, by, from, caller, command, env, directory, user, ending, $($more)*
        )
    }};
}

impl Asked {
    /// What this request asks for.
    pub(super) fn by(context: &Context, request: &Request) -> Self {
        let exec = &request.exec;
        let directory = exec.directory.as_ref().or(context.settings.directory.as_ref());
        let names = exec.env.names().collect::<Vec<_>>().join(",");
        Self {
            job: request.id,
            by: Some(&request.asker).filter(|asker| **asker != Asker::Anyone).map(Asker::to_string),
            from: exec.from.as_deref().map(name),
            caller: name(&request.caller),
            command: exec.command().map(|command| shown(&command)).unwrap_or_default(),
            env: Some(cut(&names, TEXT_SHOWN)).filter(|names| !names.is_empty()),
            directory: directory.map(|directory| cut(directory, TEXT_SHOWN)),
            user: Some(name(exec.user.as_ref().unwrap_or(&context.own_user))),
        }
    }

    /// What a record says was asked for.
    pub(super) fn recorded(begun: &Begun) -> Self {
        Self {
            job: begun.id,
            by: None,
            from: begun.from.clone(),
            caller: begun.caller.clone(),
            command: begun.command.clone(),
            env: None,
            directory: Some(begun.directory.clone()).filter(|directory| !directory.is_empty()),
            user: begun.user.clone(),
        }
    }

    /// What was to run, shortened. May hold any character.
    pub(super) fn command(&self) -> &str {
        &self.command
    }

    /// Says how it ended.
    pub(super) fn ended(&self, result: &JobResult) {
        let bytes = |total: &Option<crate::protocol::exec::StreamTotal>| total.as_ref().map(|it| it.bytes);
        let (out, err, duration_ms) = (bytes(&result.out), bytes(&result.err), result.duration_ms);
        let (killed, left_running) = (result.killed, result.left_running);
        match &result.ending {
            Ending::Unknown { .. } => {
                line!(warn, self, result.ending, out, err, duration_ms, killed, left_running, "ended");
            }
            _ => line!(info, self, result.ending, out, err, duration_ms, killed, left_running, "ended"),
        }
    }

    /// Says that it was refused.
    pub(super) fn refused(&self, ending: &Ending) {
        line!(warn, self, ending, "refused a request");
    }

    /// Says that it was a dead daemon's, and what was found of it.
    pub(super) fn found_dead(&self, ending: &Ending, killed: u32) {
        line!(warn, self, ending, killed, "ended a dead daemon's job");
    }
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

/// A name, of a length that names have.
pub(super) fn name(text: impl AsRef<str>) -> String {
    cut(text.as_ref(), NAME_SHOWN)
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
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
