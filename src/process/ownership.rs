//! Who may change a file, or put another one in its place.
//!
//! Whoever can do that to a program, a configuration, credentials or a policy of a daemon has what the daemon may.
//! So for a daemon these must be root's or its own user's, and so must the folders they are in.
//!
//! Limit: it is a look, by mode and owner. Access control lists count as far as they show in the mode (the group's
//! bits are the most they allow), and who can mount something over a folder is root anyway.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::host;

/// Bits of a mode by which others than its owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The bit of a directory's mode by which nobody may take away what is somebody else's.
const STICKY: u32 = 0o1000;

/// Whether nobody but root and the user of this process can change a file, or put another in its place in its
/// folder. `about` is of the very file that is meant.
///
/// # Errors
/// A sentence: who else can, and what mends it.
pub fn check_file(path: &Path, about: &Metadata) -> Result<(), String> {
    check_itself(path, about)?;
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    check_folder(real.parent().unwrap_or(Path::new("/")))
}

/// The same of a file or directory with all folders on the way to it, where this process is root's: whoever can change
/// what root relies on is root as well. Others answer for themselves.
///
/// # Errors
/// A sentence: who else can, and what mends it; or that it cannot be looked at.
pub fn check_for_root(path: &Path) -> Result<(), String> {
    if host::is_root() { check_with_all_folders(path) } else { Ok(()) }
}

fn check_with_all_folders(path: &Path) -> Result<(), String> {
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    check_itself(&real, &fs::metadata(&real).map_err(|error| error.to_string())?)?;
    // Where the name is that of a link, whoever may replace that decides as well.
    let above = std::path::absolute(path).ok().and_then(|path| path.parent()?.canonicalize().ok());
    let folders = real.ancestors().skip(1).chain(above.as_deref().into_iter().flat_map(Path::ancestors));
    for folder in folders.filter(|folder| folder.parent().is_some()) {
        check_folder(folder)?;
    }
    Ok(())
}

fn check_itself(path: &Path, about: &Metadata) -> Result<(), String> {
    if is_a_strangers(about) {
        return Err(format!(
            "it belongs to {}, who is neither root nor the daemon's; `chown root {}` mends that where it is meant \
             to be used",
            owner_and_mode(about),
            path.display()
        ));
    }
    if about.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(format!(
            "others than its owner may write it (it belongs to {}); `chmod go-w {}` mends that",
            owner_and_mode(about),
            path.display()
        ));
    }
    Ok(())
}

fn check_folder(folder: &Path) -> Result<(), String> {
    let about = fs::metadata(folder).map_err(|error| error.to_string())?;
    let replaceable = about.mode() & WRITABLE_BY_OTHERS != 0 && about.mode() & STICKY == 0;
    if is_a_strangers(&about) || replaceable {
        let shown = folder.display();
        return Err(format!(
            "others may put another file in its place, as the folder {shown} belongs to {}: `chmod go-w {shown}`, or \
             chown it",
            owner_and_mode(&about)
        ));
    }
    Ok(())
}

/// As in `user 1000, mode 0775`.
fn owner_and_mode(about: &Metadata) -> String {
    format!("user {}, mode {:04o}", about.uid(), about.mode() & 0o7777)
}

fn is_a_strangers(about: &Metadata) -> bool {
    about.uid() != 0 && about.uid() != host::user_number()
}
