//! A new program staged beside the one to replace.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::exit::CliError;
use peerbus_daemon::self_upgrade::{check, elf, sync};

/// Hexadecimal digits that distinguish the state directories of one program.
const DIGITS: usize = 16;

/// Bytes per copy step.
const PIECE: usize = 256 * 1024;

/// A staged program; removed when this is dropped, unless kept.
pub(super) struct Staged {
    pub(super) path: PathBuf,
    /// Its origin, for messages.
    from: String,
    digest: blake3::Hash,
    kept: Cell<bool>,
}

impl Staged {
    /// Copies it, syncs it to disk, and verifies the copy.
    pub(super) fn from(
        from: &Path,
        program: &Path,
        state_dir: &Path,
        wanted: Option<&str>,
    ) -> Result<Self, CliError> {
        let path = place(program, state_dir);
        let shown =
            if from.as_os_str() == "-" { "standard input".to_owned() } else { from.display().to_string() };
        let failed =
            |what: &str, error: io::Error| CliError::other(format!("{what}: {error}; nothing was changed"));
        let mut source: Box<dyn Read> = if from.as_os_str() == "-" {
            Box::new(io::stdin().lock())
        } else {
            elf(from).map_err(|why| CliError::other(format!("{shown}: {why}; nothing was changed")))?;
            Box::new(File::open(from).map_err(|error| failed(&shown, error))?)
        };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&format!("removing {}", path.display()), error));
            }
            _ => {}
        }
        let writing = |error| failed(&format!("writing {}", path.display()), error);
        let mut options = File::options();
        let mut file = options.write(true).create_new(true).mode(0o755).open(&path).map_err(writing)?;
        let mut staged =
            Self { path: path.clone(), from: shown, digest: blake3::hash(b""), kept: Cell::new(false) };
        staged.digest = copy(&mut source, &mut file).map_err(writing)?;
        // The old program's mode, whatever the umask is.
        let rights =
            fs::metadata(program).map_or(fs::Permissions::from_mode(0o755), |file| file.permissions());
        file.set_permissions(rights).map_err(writing)?;
        file.sync_all().map_err(writing)?;
        // A file that is open for writing cannot be executed.
        drop(file);
        sync(path.parent().unwrap_or(Path::new("/"))).map_err(writing)?;
        match wanted {
            Some(wanted) if !wanted.eq_ignore_ascii_case(&staged.digest.to_hex()) => {
                Err(CliError::other(format!(
                    "{}: its digest is {}, not {wanted}; nothing was changed",
                    staged.from,
                    staged.digest.to_hex()
                )))
            }
            _ => Ok(staged),
        }
    }

    /// Runs it to get its version.
    pub(super) async fn check(&self) -> Result<String, CliError> {
        let checked = check(&self.path, &["daemon".into(), "check".into()]).await;
        let checked =
            checked.map_err(|why| CliError::other(format!("{}: {why}; nothing was changed", self.from)))?;
        Ok(checked.version)
    }

    /// Whether a file has the same content.
    pub(super) fn is(&self, other: &Path) -> bool {
        let digest = File::open(other).and_then(|mut file| copy(&mut file, &mut io::sink()));
        digest.is_ok_and(|digest| digest == self.digest)
    }

    /// Keeps the file: the daemon owns it from now on.
    pub(super) fn keep(&self) {
        self.kept.set(true);
    }

    pub(super) fn failed(&self, what: &str, error: &io::Error) -> CliError {
        CliError::other(format!("{what}: {}: {error}; nothing was changed", self.from))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.kept.get() {
            // The next upgrade removes leftovers.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A path beside the program, so that a rename works. It is fixed for a state directory, so that
/// leftovers of a killed upgrade are found.
fn place(program: &Path, state_dir: &Path) -> PathBuf {
    let whole = state_dir.canonicalize().unwrap_or_else(|_| state_dir.to_owned());
    let digest = blake3::hash(whole.as_os_str().as_bytes()).to_hex();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    program.with_file_name(format!(".{name}.next-{}", &digest[..DIGITS]))
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(hasher.finalize()),
            Ok(length) => {
                hasher.update(&piece[..length]);
                to.write_all(&piece[..length])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
