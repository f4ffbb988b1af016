//! Writes a file that the user named, like a shell's `>`.
//!
//! Guarantees: an existing file keeps its owner, mode, symlinks and hard links. Symlinks are
//! followed. A device, a FIFO or `>(jq .)` is opened and written to. A regular file is replaced
//! atomically if that preserves all of this, and otherwise written in place. `-` is standard
//! output.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use peerbus_process::{Blocking, duplicate};

/// Mode of a new file, before the umask.
const NEW: u32 = 0o666;

/// Mode bits that a file can have.
const RIGHTS: u32 = 0o7777;

/// A writable file that the user named.
#[derive(Debug)]
pub(super) enum NamedFile {
    /// Replaces the regular file of this name, which may be missing, once complete.
    Draft { path: PathBuf, draft: NamedTempFile },
    /// A regular file that cannot be replaced.
    InPlace(File),
    /// Anything else; writes are appended.
    Stream(Blocking<File>),
}

impl NamedFile {
    /// Opens it without changing anything.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            let stdout = io::stdout().as_fd().try_clone_to_owned()?;
            return Ok(Self::Stream(Blocking(stdout.into())));
        }
        if let Some(number) = descriptor(path) {
            return Ok(Self::Stream(Blocking(duplicate(number)?.into())));
        }
        // Opened even if it will be replaced, so that its permissions and the kernel's link
        // protection apply.
        match File::options().write(true).open(path) {
            Ok(file) => {
                let there = file.metadata()?;
                match there.is_file() {
                    true => Ok(draft_for(path, &there).unwrap_or(Self::InPlace(file))),
                    false => Ok(Self::Stream(Blocking(file))),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => match path.is_symlink() {
                true => {
                    Ok(Self::InPlace(File::options().write(true).create(true).truncate(false).open(path)?))
                }
                false => Ok(Self::Draft { path: path.to_owned(), draft: draft_beside(path)? }),
            },
            Err(error) => Err(error),
        }
    }

    /// Writes everything, and sets the mode of a regular file.
    pub(super) fn write(self, bytes: &[u8], rights: Option<u32>) -> io::Result<()> {
        let finish = |file: &File| {
            if let Some(rights) = rights {
                file.set_permissions(Permissions::from_mode(rights))?;
            }
            file.sync_all()
        };
        match self {
            Self::Draft { path, mut draft } => {
                draft.write_all(bytes)?;
                finish(draft.as_file())?;
                draft.persist(path)?;
                Ok(())
            }
            Self::InPlace(mut file) => {
                file.write_all(bytes)?;
                file.set_len(bytes.len() as u64)?;
                finish(&file)
            }
            Self::Stream(mut stream) => stream.write_all(bytes),
        }
    }
}

/// The number of our own descriptor that a path names. Opening it anew would write a regular file
/// from its start, and fails for a socket.
fn descriptor(path: &Path) -> Option<RawFd> {
    match path.to_str()? {
        "/dev/stdin" => Some(0),
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        path => {
            let number = path.strip_prefix("/dev/fd/").or_else(|| path.strip_prefix("/proc/self/fd/"))?;
            number.parse().ok().filter(|number| *number >= 0)
        }
    }
}

/// A draft that differs from the file only in its content, if possible.
fn draft_for(path: &Path, there: &Metadata) -> Option<NamedFile> {
    if there.nlink() != 1 {
        return None;
    }
    let path = path.canonicalize().ok()?;
    let draft = draft_beside(&path).ok()?;
    let made = draft.as_file().metadata().ok()?;
    if (made.uid(), made.gid()) != (there.uid(), there.gid()) {
        fchown(draft.as_file(), Some(there.uid()), Some(there.gid())).ok()?;
    }
    draft.as_file().set_permissions(Permissions::from_mode(there.mode() & RIGHTS)).ok()?;
    Some(NamedFile::Draft { path, draft })
}

fn draft_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(NEW)).tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, text: &str) {
        NamedFile::open(path).expect("opened").write(text.as_bytes(), None).expect("written");
    }

    #[test]
    fn what_is_there_stays_what_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let read = |name: &str| fs::read_to_string(at(name)).expect("read");
        fs::write(at("file"), "longer than what is written").expect("written");
        fs::set_permissions(at("file"), Permissions::from_mode(0o640)).expect("rights");
        symlink("file", at("link")).expect("a link");
        write(&at("link"), "one");
        assert!(at("link").is_symlink());
        let there = fs::metadata(at("file")).expect("there");
        assert_eq!((read("file").as_str(), there.mode() & 0o777), ("one", 0o640));

        fs::hard_link(at("file"), at("second")).expect("a hard link");
        write(&at("second"), "2");
        assert_eq!((read("file").as_str(), read("second").as_str()), ("2", "2"));

        symlink("new", at("dangling")).expect("a link");
        write(&at("dangling"), "three");
        assert_eq!(read("new"), "three");

        write(Path::new("/dev/null"), "four");
        assert!(!fs::metadata("/dev/null").expect("there").is_file());
        NamedFile::open(folder.path()).expect_err("a directory");
        NamedFile::open(&at("none/file")).expect_err("no folder");
        // A draft that was not written leaves nothing behind.
        drop(NamedFile::open(&at("unwritten")).expect("opened"));
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 5);
    }
}
