//! One rule, and whether it allows a request. No file access here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::patterns::{ArgvPattern, VariableName};
use super::principals::Principals;
use peerbus_protocol::exec::Command;
use peerbus_protocol::identity::Principal;
use peerbus_protocol::variables::Variables;

/// One step of a task, from the peer's own configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its working directory, as configured.
    pub directory: String,
    /// The shell command line.
    pub line: String,
    /// Its environment variables.
    pub env: BTreeMap<String, String>,
    /// The user it runs as. `None` is the daemon's own user.
    pub user: Option<String>,
}

/// A request with the facts that rules check.
#[derive(Debug, Clone, Copy)]
pub(super) struct AccessRequest<'a> {
    pub(super) principal: &'a Principal,
    pub(super) command: &'a Command,
    /// The requested working directory.
    pub(super) directory: &'a str,
    /// The resolved directory. `None` if it cannot be resolved or no rule needs it.
    pub(super) real: Option<&'a Path>,
    pub(super) env: &'a Variables,
    /// The user to run as.
    pub(super) user: &'a str,
    /// Whether it can ever receive input, on standard input or at a terminal.
    pub(super) input: bool,
    /// The user the daemon runs as.
    pub(super) own_user: &'a str,
}

/// Access to the output and input of another principal's job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Access {
    /// Read the output.
    Read,
    /// Also write input, and change what other viewers see.
    Write,
}

/// Everything, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice<T> {
    Any,
    These(Vec<T>),
}

impl<T> Choice<T> {
    fn has(&self, is_it: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::These(these) => these.iter().any(is_it),
        }
    }
}

/// A user of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum User {
    /// The daemon's own user.
    Own,
    Named(String),
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) who: Vec<Principals>,
    pub(super) what: RuleKind,
}

/// What a rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RuleKind {
    /// The steps of these tasks and nothing else.
    Tasks { names: Vec<String>, steps: Vec<Step> },
    /// Commands that match.
    Commands(CommandRule),
    /// Attaching to other principals' jobs, but running nothing.
    Attach(Access),
}

/// The conditions on a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandRule {
    pub(super) argv: Choice<ArgvPattern>,
    pub(super) sh: Choice<String>,
    /// Directories, with everything below them.
    pub(super) directory: Choice<PathBuf>,
    pub(super) user: Choice<User>,
    /// `None` means the default, which depends on the commands.
    pub(super) env: Option<Choice<VariableName>>,
    pub(super) stdin: Option<bool>,
}

/// Why a rule does not allow a request: the key that does not match, and the reason.
pub(super) type Mismatch = (&'static str, String);

impl Rule {
    /// Whether the rule is about this principal.
    pub(super) fn is_about(&self, principal: &Principal) -> bool {
        self.who.iter().any(|who| who.has(principal))
    }

    /// Whether the rule needs the resolved directory.
    pub(super) fn looks_at_directories(&self) -> bool {
        matches!(&self.what, RuleKind::Commands(CommandRule { directory: Choice::These(_), .. }))
    }

    /// Whether it allows a request of a principal it is about.
    pub(super) fn allows(&self, wish: &AccessRequest<'_>) -> Result<(), Mismatch> {
        match &self.what {
            RuleKind::Tasks { steps, .. } if steps.iter().any(|step| step.is(wish)) => Ok(()),
            RuleKind::Tasks { names, .. } => {
                Err(("task", format!("it is no step of {}, as this peer has it", names.join(", "))))
            }
            RuleKind::Commands(commands) => commands.allow(wish),
            RuleKind::Attach(_) => Err(("attach", "it is about jobs that run, and starts none".to_owned())),
        }
    }
}

impl Step {
    fn is(&self, wish: &AccessRequest<'_>) -> bool {
        let same_line = matches!(wish.command, Command::Shell(line) if *line == self.line);
        let env = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        same_line
            && wish.directory == self.directory
            && wish.user == self.user.as_deref().unwrap_or(wish.own_user)
            && wish.env.iter().eq(env)
            && !wish.input
    }
}

impl CommandRule {
    fn allow(&self, wish: &AccessRequest<'_>) -> Result<(), Mismatch> {
        let any = self.allow_command(wish.command)?;
        self.allow_place(wish)?;
        self.allow_user(wish)?;
        // A client that may run every command could set variables and read input through one of them anyway.
        let by_default = if any { Choice::Any } else { Choice::These(Vec::new()) };
        let env = self.env.as_ref().unwrap_or(&by_default);
        if let Some(name) = wish.env.names().find(|name| !env.has(|allowed| allowed.means(name))) {
            return Err(("env", format!("the variable {name:?} may not be set")));
        }
        if wish.input && !self.stdin.unwrap_or(any) {
            return Err(("stdin", "it may be sent no input, and get no terminal to type at".to_owned()));
        }
        Ok(())
    }

    /// Also returns whether every command of this kind is allowed.
    fn allow_command(&self, command: &Command) -> Result<bool, Mismatch> {
        match command {
            Command::Argv(argv) => match &self.argv {
                Choice::Any => Ok(true),
                Choice::These(these) if these.iter().any(|words| words.mean(argv)) => Ok(false),
                Choice::These(these) if these.is_empty() => {
                    Err(("argv", "it allows shell lines alone".to_owned()))
                }
                Choice::These(_) => Err(("argv", "these words are not among those it allows".to_owned())),
            },
            Command::Shell(line) => match &self.sh {
                Choice::Any => Ok(true),
                Choice::These(these) if these.contains(line) => Ok(false),
                Choice::These(these) if these.is_empty() => {
                    Err(("sh", "it allows no shell lines".to_owned()))
                }
                Choice::These(_) => Err(("sh", "this line is not among those it allows".to_owned())),
            },
        }
    }

    fn allow_place(&self, wish: &AccessRequest<'_>) -> Result<(), Mismatch> {
        // The message does not reveal the resolved directory: the daemon may read what the client may not.
        let is_it = |above: &PathBuf| wish.real.is_some_and(|real| real.starts_with(above));
        if self.directory.has(is_it) {
            return Ok(());
        }
        Err(("directory", format!("{:?} does not lead into a directory that it allows", wish.directory)))
    }

    fn allow_user(&self, wish: &AccessRequest<'_>) -> Result<(), Mismatch> {
        let is_it = |user: &User| match user {
            User::Own => wish.user == wish.own_user,
            User::Named(name) => wish.user == name,
        };
        if self.user.has(is_it) {
            return Ok(());
        }
        Err(("user", format!("it may not run as {:?}", wish.user)))
    }
}
