//! The key of a pending membership, kept until the join is complete, since an answer may get lost.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::exit::CliError;
use crate::keys::FleetPaths;
use peerbus_identity::{InviteToken, Key};

/// A key and its file.
pub(super) struct Pending {
    path: PathBuf,
    key: Key,
}

impl Pending {
    /// The key of an earlier attempt with the same invitation, else a new one.
    pub(super) fn open(places: &FleetPaths, ticket: &InviteToken) -> Result<Self, CliError> {
        let path = places.identity.join(format!("{}.joining", ticket.guest.id));
        let key = match read(&path)? {
            Some(key) => key,
            None => {
                let key = Key::of_identity();
                write(&path, &key)
                    .map_err(|error| CliError::other(format!("writing {}: {error}", path.display())))?;
                key
            }
        };
        Ok(Self { path, key })
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Removes the file, after the key was stored or became useless.
    pub(super) fn done(self) {
        // A leftover file is only used by the same invitation.
        let _ = fs::remove_file(self.path);
    }
}

fn read(path: &Path) -> Result<Option<Key>, CliError> {
    let shown = path.display();
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| CliError::other(format!("reading {shown}: {error}")))?,
    };
    let mode = fs::metadata(path).map(|file| file.mode() & 0o777);
    if !mode.is_ok_and(|mode| mode & 0o077 == 0) {
        return Err(CliError::other(format!(
            "others may read {shown}, a key of this machine: remove it, and ask for another invitation"
        )));
    }
    Key::from_seed(&text).map(Some).map_err(|bad| CliError::other(format!("{shown}: {bad}; remove it")))
}

/// Writes atomically, readable by its owner only.
fn write(path: &Path, key: &Key) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new("/")))?;
    writeln!(file, "{}", key.seed())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
