//! Resolves the working directory of a command to its real path.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use super::resolved_command::directory_of;
use super::user::User;

/// Longest path of the system, in bytes.
const LONGEST: usize = 4096;

/// The real path of a command's working directory: expands `~`, follows links and resolves dots. Components
/// that do not exist stay unchanged. Blocks on file systems and on the user lookup.
///
/// The path may change after this check. A caller that bases a decision on the result must start the command
/// with [`Links::Refused`](super::Links::Refused).
///
/// # Errors
/// When the user does not exist, the daemon lacks permission, or the name is not UTF-8. Also when `..`
/// follows a component that does not exist, because its target is unknown.
pub fn real_directory(directory: &str, user: Option<&str>) -> io::Result<PathBuf> {
    let account = User::find(user).map_err(io::Error::other)?;
    if directory.len() > LONGEST {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    let real = real(&directory_of(directory, &account).map_err(io::Error::other)?)?;
    match real.to_str() {
        Some(_) => Ok(real),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "its name is not text")),
    }
}

/// Like [`real_directory`], but in a separate process. On a dead file server a thread would hang forever and
/// block the exit of this process; a separate process can be killed and left behind.
///
/// # Errors
/// Like [`real_directory`]; `TimedOut` when it takes longer than `within`.
pub async fn find_real_directory(
    directory: &str,
    user: Option<&str>,
    within: Duration,
) -> io::Result<PathBuf> {
    if directory.len() > LONGEST {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    let mut look = tokio::process::Command::new("/proc/self/exe");
    look.arg("real-directory").arg(directory).args(user).env_clear().kill_on_drop(true);
    look.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = tokio::time::timeout(within, look.output()).await.map_err(|_| io::ErrorKind::TimedOut)??;
    match done.status.success() {
        true => Ok(OsString::from_vec(done.stdout).into()),
        false => Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned())),
    }
}

/// The program `d real-directory DIRECTORY [USER]`, started by a daemon: prints the result of
/// [`real_directory`].
#[must_use]
pub fn real_directory_main() -> ExitCode {
    let mut words = std::env::args().skip(2);
    let found = match words.next() {
        Some(directory) => real_directory(&directory, words.next().as_deref()),
        None => Err(io::ErrorKind::InvalidInput.into()),
    };
    let told = match &found {
        Ok(real) => io::stdout().write_all(real.as_os_str().as_bytes()),
        Err(error) => write!(io::stderr(), "{error}"),
    };
    if found.is_ok() && told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn real(path: &Path) -> io::Result<PathBuf> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match path.canonicalize() {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => {
            // A final `..` has no file name, so it is never removed from a path that does not exist.
            let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(error) };
            Ok(real(above)?.join(name))
        }
        resolved => resolved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn of(path: &Path) -> io::Result<PathBuf> {
        real_directory(path.to_str().expect("text"), None)
    }

    #[test]
    fn links_and_dots_lead_where_they_lead() {
        let place = tempfile::tempdir().expect("a directory");
        let top = place.path().canonicalize().expect("a path");
        std::fs::create_dir_all(top.join("app/src")).expect("made");
        symlink("/etc", top.join("app/out")).expect("a link");
        symlink("..", top.join("app/src/up")).expect("a link");
        symlink("/nowhere/at/all", top.join("app/dangling")).expect("a link");
        symlink("loop", top.join("app/loop")).expect("a link");
        for (asked, wanted) in [
            ("app", Some(top.join("app"))),
            ("app/", Some(top.join("app"))),
            ("app//./src/.", Some(top.join("app/src"))),
            ("app/src/../..", Some(top.clone())),
            ("app/out", Some("/etc".into())),
            ("app/out/..", Some("/".into())),
            ("app/src/up", Some(top.join("app"))),
            ("app/src/up/../x", Some(top.join("x"))),
            ("app/none/yet", Some(top.join("app/none/yet"))),
            ("app/out/none", Some("/etc/none".into())),
            // The target is unknown; entering the directory reveals it.
            ("app/dangling", Some(top.join("app/dangling"))),
            ("app/none/../..", None),
            ("app/loop", None),
        ] {
            assert_eq!(of(&top.join(asked)).ok(), wanted, "{asked}");
        }
        assert!(of(Path::new(&format!("/{}", "a/".repeat(500_000)))).is_err(), "too long to be looked for");
    }

    #[test]
    fn a_home_is_its_users() {
        let own = User::find(None).expect("an account").home;
        assert_eq!(real_directory("~", None).expect("a home"), real(&own).expect("a home"));
        assert!(real_directory("~", Some("no-such-user")).is_err());
    }
}
