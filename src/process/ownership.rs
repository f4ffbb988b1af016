//! Checks who may change or replace a file.
//!
//! Whoever can change a daemon's program, configuration, credentials or policy gains the daemon's rights. So
//! these files and their directories must belong to root or the daemon's user.
//!
//! Limit: checks only mode and owner. Access control lists count as far as the mode shows them (the group
//! bits are their upper limit). Whoever can mount over a directory is root anyway.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::host;

/// Mode bits that let others than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The mode bit of a directory that protects files from everyone except their owners.
const STICKY: u32 = 0o1000;

/// Checks that only root and this process' user can change the file or replace it in its directory. `about`
/// is the metadata of the file itself.
///
/// # Errors
/// A sentence: who else can, and how to fix it.
pub fn check_file(path: &Path, about: &Metadata) -> Result<(), String> {
    check_itself(path, about)?;
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    check_folder(real.parent().unwrap_or(Path::new("/")))
}

/// If this process is root, checks a file or directory and all its parents: whoever can change what root
/// relies on is root as well. Other users are responsible for themselves.
///
/// # Errors
/// A sentence: who else can, and how to fix it, or that this cannot be checked.
pub fn check_for_root(path: &Path) -> Result<(), String> {
    if host::is_root() { check_with_all_folders(path) } else { Ok(()) }
}

fn check_with_all_folders(path: &Path) -> Result<(), String> {
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    check_itself(&real, &fs::metadata(&real).map_err(|error| error.to_string())?)?;
    // If the path is a symbolic link, also check the directory that contains it.
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

/// For example `user 1000, mode 0775`.
fn owner_and_mode(about: &Metadata) -> String {
    format!("user {}, mode {:04o}", about.uid(), about.mode() & 0o7777)
}

fn is_a_strangers(about: &Metadata) -> bool {
    about.uid() != 0 && about.uid() != host::user_number()
}
