//! From what was asked for to what is executed: user, directory, program and environment, all
//! looked up before the fork, because afterwards hardly anything may be called.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment::{self, DEFAULT_PATH, Environment};
use super::launch::{LAUNCH_WITHIN, Program};
use super::spec::{Command, Spec, StartError};
use super::user::User;
use peerbus_protocol::ending::StartFailure;

/// The shell that there is where there is no bash.
const LAST_SHELL: &str = "/bin/sh";

/// A command that is ready to be launched, and the names to speak of it.
pub(super) struct ResolvedCommand {
    pub(super) program: Program,
    pub(super) user: String,
    pub(super) directory: PathBuf,
    /// As it was asked for, before PATH was searched.
    pub(super) command: OsString,
    /// The files that may be it, in the order in which they are tried.
    pub(super) candidates: Vec<PathBuf>,
    /// How long it may take until it is executed.
    pub(super) within: Duration,
}

impl ResolvedCommand {
    /// Looks everything up. Whether directory and program exist is only known on the way in, as the
    /// job's user.
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
            // A line that begins with a dash would be taken for more options; a blank in front
            // changes nothing in any shell, where `--` is not understood by all.
            let line = if line.starts_with(['-', '+']) { format!(" {line}") } else { line.clone() };
            vec![shell.into(), "-c".into(), line.into()]
        }
    }
}

/// bash where there is one, because people write `source` and `[[`. Whether there is one the job's own process finds
/// out, by executing the first of these that it can: a folder of PATH may be on a file server that never answers.
fn default_shells(path: &OsStr) -> Vec<PathBuf> {
    let absolute = candidates(OsStr::new("bash"), path).into_iter().filter(|file| file.is_absolute());
    absolute.chain([LAST_SHELL.into()]).collect()
}

/// The files a command may be, as `execvp` has it: a name with a slash is a path, any other is
/// looked for in PATH, where an empty entry is the directory of the job.
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
