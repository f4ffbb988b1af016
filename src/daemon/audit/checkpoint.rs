//! The head: how far the log goes, in a file of its own beside the log's folder.
//!
//! It is overwritten in place with a text of constant length, so that it can be written on a disk
//! that is full, and so that whoever is killed in the middle of it leaves the old or the new one.
//! It is written after the lines: a daemon that was killed in between leaves lines beyond the head,
//! which is no fault, and never a head beyond the lines.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use peerbus_protocol::audit::Checkpoint;
use peerbus_protocol::decode;

/// Its name below the state directory.
const FILE: &str = "audit.head";

/// Its length in bytes; a head needs at most 112.
const LENGTH: usize = 128;

pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// What it says; none where there is no file.
///
/// # Errors
/// When it cannot be read, or is no head.
pub(super) fn read(state_dir: &Path) -> io::Result<Option<Checkpoint>> {
    let text = match std::fs::read(path(state_dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let head = decode::json(&text);
    head.map(Some).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad.0))
}

/// Writes it.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(state_dir: &Path, head: &Checkpoint) -> io::Result<()> {
    let mut text = decode::to_json(head);
    text.resize(LENGTH - 1, b' ');
    text.push(b'\n');
    let mut open = OpenOptions::new();
    let file = open.write(true).create(true).truncate(false).mode(0o600).open(path(state_dir))?;
    file.write_all_at(&text, 0)?;
    if file.metadata()?.len() == LENGTH as u64 { Ok(()) } else { file.set_len(LENGTH as u64) }
}
