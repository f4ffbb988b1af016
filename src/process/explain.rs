//! Explains a failed launch to users: the names come from the resolved command, the reason from the system.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::libc;

use super::launch::{LaunchError, Step};
use super::resolved_command::ResolvedCommand;
use super::spec::StartError;
use peerbus_protocol::ending::StartFailure;

/// Returns the failure code and the message.
pub(super) fn explain(plan: &ResolvedCommand, error: &LaunchError) -> StartError {
    match error.step {
        Step::Fork => StartError::system("making a process", &error.source),
        Step::Surroundings => StartError::system("preparing a process", &error.source),
        Step::User => StartError::system(&format!("becoming user {:?}", plan.user), &error.source),
        Step::Directory => directory(plan, error),
        Step::Elsewhere => elsewhere(plan),
        Step::Program => program(plan, error),
        Step::Stuck => StartError::of_system(stuck(plan)),
        Step::StuckTooLate => StartError::too_late(&stuck(plan), &error.source),
    }
}

/// Does not access the file system, which would hang as well.
fn stuck(plan: &ResolvedCommand) -> String {
    format!(
        "{} could not be started in {} as user {:?}: it took longer than {:?}; the file system of that directory, of the \
         program, or of a folder of PATH does not answer",
        plan.command.display(),
        plan.directory.display(),
        plan.user,
        plan.within
    )
}

fn directory(plan: &ResolvedCommand, error: &LaunchError) -> StartError {
    let path = plan.directory.display();
    let why = match error.source.raw_os_error() {
        Some(libc::ENOENT | libc::ELOOP | libc::ENAMETOOLONG) => StartFailure::NoSuchDirectory,
        Some(libc::ENOTDIR) => StartFailure::NotADirectory,
        Some(libc::EACCES) => StartFailure::DirectoryDenied,
        _ => StartFailure::System,
    };
    StartError::new(why, format!("entering directory {path} as user {:?}: {}", plan.user, error.source))
}

fn elsewhere(plan: &ResolvedCommand) -> StartError {
    let path = plan.directory.display();
    let message =
        format!("entering directory {path}: it was changed meanwhile, and the way leads elsewhere now");
    StartError::new(StartFailure::NoSuchDirectory, message)
}

fn program(plan: &ResolvedCommand, error: &LaunchError) -> StartError {
    let name = plan.command.display();
    let there = plan.candidates.iter().map(|path| plan.directory.join(path)).find(|path| path.exists());
    let errno = error.source.raw_os_error().unwrap_or_default();
    match (errno, there) {
        (libc::ENOENT | libc::ENOTDIR | libc::EACCES, None) => not_found(plan),
        (libc::ENOENT | libc::ENOTDIR, Some(file)) => not_executable(&missing_interpreter(&file)),
        (libc::EACCES, Some(file)) if file.is_dir() => {
            not_executable(&format!("{}: it is a directory", file.display()))
        }
        (libc::ENOEXEC, file) => not_executable(&format!(
            "{}: not a program this system can run (a script needs a first line like #!/bin/sh)",
            file.as_deref().unwrap_or(Path::new(&plan.command)).display()
        )),
        (libc::EACCES | libc::EPERM | libc::ETXTBSY | libc::ELIBBAD | libc::EISDIR, Some(file)) => {
            not_executable(&format!("{} as user {:?}: {}", file.display(), plan.user, error.source))
        }
        (libc::ELOOP | libc::ENAMETOOLONG, _) => not_found(plan),
        _ => StartError::system(&format!("executing {name}"), &error.source),
    }
}

fn not_found(plan: &ResolvedCommand) -> StartError {
    let name = plan.command.display();
    let message = match plan.candidates.as_slice() {
        [only] if only.as_os_str() == plan.command => {
            format!("command {name} not found (directory {})", plan.directory.display())
        }
        several => {
            let folders: Vec<_> =
                several.iter().filter_map(|file| file.parent()).map(PathBuf::from).collect();
            let folders = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>();
            format!("command {name} not found in PATH ({})", folders.join(":"))
        }
    };
    StartError::new(StartFailure::CommandNotFound, message)
}

fn not_executable(message: &str) -> StartError {
    StartError::new(StartFailure::NotExecutable, format!("executing {message}"))
}

/// The file exists, yet exec reports ENOENT: its interpreter is missing.
fn missing_interpreter(file: &Path) -> String {
    let shown = file.display();
    match interpreter(file) {
        Some(interpreter) if interpreter.ends_with('\r') => format!(
            "{shown}: its interpreter {interpreter:?} does not exist: the script has the line ends of Windows (CRLF), \
             which `sed -i 's/\\r$//'` takes away"
        ),
        Some(interpreter) => format!("{shown}: its interpreter {interpreter} does not exist"),
        None => format!("{shown}: the loader or interpreter it needs does not exist"),
    }
}

fn interpreter(file: &Path) -> Option<String> {
    /// As much as the kernel reads.
    const FIRST_LINE_BYTES: u64 = 256;
    if !fs::metadata(file).ok()?.is_file() {
        return None;
    }
    let mut start = Vec::new();
    File::open(file).ok()?.take(FIRST_LINE_BYTES).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    // Like the kernel: blanks and tabs end the name, a carriage return is a part of it.
    Some(line.split([' ', '\t']).find(|word| !word.is_empty())?.to_owned())
}
