//! Resolves a request into what to execute: user, directory, program and environment. This happens before the
//! fork, because hardly any function may be called after it.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment::{self, DEFAULT_PATH, Environment};
use super::launch::{LAUNCH_WITHIN, Program};
use super::spec::{Command, Spec, StartError};
use super::user::User;
use peerbus_protocol::ending::StartFailure;

/// The shell to use without bash.
const LAST_SHELL: &str = "/bin/sh";

/// A command that is ready to launch, and its names for error messages.
pub(super) struct ResolvedCommand {
    pub(super) program: Program,
    pub(super) user: String,
    pub(super) directory: PathBuf,
    /// The command as requested, before the search in PATH.
    pub(super) command: OsString,
    /// The files to try, in this order.
    pub(super) candidates: Vec<PathBuf>,
    /// Time limit until it is executed.
    pub(super) within: Duration,
}

impl ResolvedCommand {
    /// Resolves everything except the existence of directory and program. Only the launch checks those, as
    /// the job's user.
    pub(super) fn of(spec: &Spec) -> Result<Self, StartError> {
        let account = User::find(spec.user.as_deref())?;
        let environment = environment::of_job(&account, &spec.env, spec.tty.is_some());
        let directory = directory_of(&spec.directory, &account)?;
        let path = environment.get(OsStr::new("PATH")).map_or(OsStr::new(DEFAULT_PATH), |path| path);
        let argv = argv_of(&spec.command);
        let Some(command) = argv.first().cloned() else {
            return Err(StartError::new(StartFailure::CommandNotFound, "the command is empty"));
        };
        let any_shell = matches!(spec.command, Command::Shell { shell: None, .. });
        let candidates = if any_shell { default_shells(path) } else { candidates(&command, path) };
        let program = Program {
            argv: argv.iter().map(|argument| c_string("an argument", argument)).collect::<Result<_, _>>()?,
            environment: c_environment(&environment)?,
            candidates: candidates.iter().map(|c| c_string("the command", c)).collect::<Result<_, _>>()?,
            directory: c_string("the directory", &directory)?,
            named_after_file: any_shell,
            links: spec.links,
            credentials: account.credentials,
        };
        let within = spec.start_within.map_or(LAUNCH_WITHIN, |within| within.min(LAUNCH_WITHIN));
        Ok(Self { program, user: account.name, directory, command, candidates, within })
    }
}

pub(super) fn directory_of(text: &str, account: &User) -> Result<PathBuf, StartError> {
    match text.strip_prefix('~') {
        Some("") => Ok(account.home.clone()),
        Some(below) if below.starts_with('/') => Ok(account.home.join(below.trim_start_matches('/'))),
        None if text.starts_with('/') => Ok(text.into()),
        _ => {
            let message = format!("directory {text:?}: it must begin with / or ~/");
            Err(StartError::new(StartFailure::NoSuchDirectory, message))
        }
    }
}

fn argv_of(command: &Command) -> Vec<OsString> {
    match command {
        Command::Argv(argv) => argv.iter().map(OsString::from).collect(),
        Command::Shell { shell, line } => {
            let shell = shell.clone().unwrap_or_else(|| LAST_SHELL.into());
            // A line that begins with a dash would be parsed as options. A leading blank is harmless in every
            // shell, while not all shells understand `--`.
            let line = if line.starts_with(['-', '+']) { format!(" {line}") } else { line.clone() };
            vec![shell.into(), "-c".into(), line.into()]
        }
    }
}

/// bash if available, because people write `source` and `[[`. The job's own process tries these in order,
/// because a PATH directory may be on a dead file server.
fn default_shells(path: &OsStr) -> Vec<PathBuf> {
    let absolute = candidates(OsStr::new("bash"), path).into_iter().filter(|file| file.is_absolute());
    absolute.chain([LAST_SHELL.into()]).collect()
}

/// The candidate files of a command, like `execvp`: a name with a slash is a path, any other is searched in
/// PATH, where an empty entry means the job's directory.
pub(super) fn candidates(command: &OsStr, path: &OsStr) -> Vec<PathBuf> {
    if command.is_empty() {
        return Vec::new();
    }
    if command.as_bytes().contains(&b'/') {
        return vec![command.into()];
    }
    std::env::split_paths(path).map(|entry| Path::new(".").join(entry).join(command)).collect()
}

pub(super) fn c_environment(environment: &Environment) -> Result<Vec<CString>, StartError> {
    let line = |(name, value): (&OsString, &OsString)| {
        c_string("the environment", [name.as_os_str(), value].join(OsStr::new("=")))
    };
    environment.iter().map(line).collect()
}

pub(super) fn c_string(what: &str, text: impl AsRef<OsStr>) -> Result<CString, StartError> {
    CString::new(text.as_ref().as_bytes())
        .map_err(|_| StartError::new(StartFailure::System, format!("{what} contains a NUL character")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> User {
        User { name: "ann".into(), home: "/home/ann".into(), shell: "/bin/sh".into(), credentials: None }
    }

    #[test]
    fn a_directory_is_absolute_or_in_the_home() {
        let resolved = |text| directory_of(text, &account()).map_err(|error| error.why);
        assert_eq!(resolved("/opt/app"), Ok("/opt/app".into()));
        assert_eq!(resolved("~"), Ok("/home/ann".into()));
        assert_eq!(resolved("~/src"), Ok("/home/ann/src".into()));
        assert_eq!(resolved("~//etc"), Ok("/home/ann/etc".into()));
        for text in ["", "app", "./app", "~bob", "~bob/x"] {
            assert_eq!(resolved(text), Err(StartFailure::NoSuchDirectory), "{text}");
        }
    }

    #[test]
    fn a_command_is_searched_as_execvp_does() {
        let found = |command: &str| candidates(OsStr::new(command), OsStr::new("/a::rel"));
        assert_eq!(found("x"), [PathBuf::from("/a/x"), "./x".into(), "./rel/x".into()]);
        assert_eq!(found("./x"), [PathBuf::from("./x")]);
        assert_eq!(found(""), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_line_is_never_taken_for_an_option() {
        let shell = Command::Shell { shell: Some("/bin/sh".into()), line: "-x".to_owned() };
        assert_eq!(argv_of(&shell), ["/bin/sh", "-c", " -x"]);
    }
}
