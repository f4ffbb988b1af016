//! Where a command would really be: a directory with everything that hides it resolved.

use std::io;
use std::path::{Path, PathBuf};

use super::account::Account;
use super::plan::directory_of;

/// Longest path the system takes, in bytes.
const LONGEST: usize = 4096;

/// The name the system itself has for the directory a command would run in: `~` is its user's home, and
/// links and dots are followed to their end. What is not there (yet) stays as it is, below what there is.
/// Blocks on file systems and on the lookup of the user.
///
/// To look is not to enter: the way may be changed afterwards. Whoever decides by this name has the
/// command entered under it, with [`Links::Refused`](super::Links::Refused).
///
/// # Errors
/// When there is no such user, the daemon itself may not look, the name is not text, or a `..` follows
/// something that is not there, so that nobody can say where it leads.
pub fn real_directory(directory: &str, user: Option<&str>) -> io::Result<PathBuf> {
    let account = Account::find(user).map_err(io::Error::other)?;
    if directory.len() > LONGEST {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    let real = real(&directory_of(directory, &account).map_err(io::Error::other)?)?;
    match real.to_str() {
        Some(_) => Ok(real),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "its name is not text")),
    }
}

fn real(path: &Path) -> io::Result<PathBuf> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match path.canonicalize() {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => {
            // A last part of `..` has no name, and is never taken away from what is not there.
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
            // Where these lead nobody can say; whoever enters the first under this name finds out.
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
        let own = Account::find(None).expect("an account").home;
        assert_eq!(real_directory("~", None).expect("a home"), real(&own).expect("a home"));
        assert!(real_directory("~", Some("no-such-user")).is_err());
    }
}
