//! The head of the log: number and hash of the last line, in a file beside the log's folder.
//!
//! The file is overwritten in place with a text of constant length. So it can be written on a full disk, and a
//! crash leaves the old or the new head. It is written after the lines: a crash in between leaves lines beyond the
//! head, which is valid, but never a head beyond the lines.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use peerbus_protocol::audit::Checkpoint;
use peerbus_protocol::decode;

/// File name below the state directory.
const FILE: &str = "audit.head";

/// File length in bytes. A head needs at most 112.
const LENGTH: usize = 128;

pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Reads the head. `None` if there is no file.
///
/// # Errors
/// If it cannot be read or is invalid.
pub(super) fn read(state_dir: &Path) -> io::Result<Option<Checkpoint>> {
    let text = match std::fs::read(path(state_dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let head = decode::json(&text);
    head.map(Some).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad.0))
}

/// Writes the head.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write(state_dir: &Path, head: &Checkpoint) -> io::Result<()> {
    let mut text = decode::to_json(head);
    text.resize(LENGTH - 1, b' ');
    text.push(b'\n');
    let mut open = OpenOptions::new();
    let file = open.write(true).create(true).truncate(false).mode(0o600).open(path(state_dir))?;
    file.write_all_at(&text, 0)?;
    if file.metadata()?.len() == LENGTH as u64 { Ok(()) } else { file.set_len(LENGTH as u64) }
}
