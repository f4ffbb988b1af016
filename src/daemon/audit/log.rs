//! The log on disk: appends lines and rotates files within a size limit.
//!
//! Guarantees: a line is written completely or not at all. The head never points beyond the lines. If the end of
//! the log is not as this or an earlier process left it, the log either continues there or records the damage. It
//! never repairs anything silently.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::checkpoint;
use super::files;
use super::recovery::{self, LogEnd};
use peerbus_protocol::audit::{AuditEntry, AuditEvent, Checkpoint, LINE_MAX, LineHash};
use peerbus_protocol::{PeerId, decode};

/// Number of files of a log. When the log is full, the oldest file is removed.
const FILES: u64 = 8;

/// Default maximum size of all files together: about 60,000 jobs.
pub const SIZE: u64 = 64 << 20;

/// The smallest allowed size: the longest line must fit into one file.
pub const SIZE_MIN: u64 = FILES * LINE_MAX as u64;

/// Maximum length of a line without shortened parts, in bytes: a command of the maximum quoted length, and usual
/// values for the rest.
const LINE_USUAL: usize = LINE_MAX / 2;

/// Maximum lengths of one part of a longer line, in bytes as JSON. The second is short enough for any number of
/// parts.
const PART_LONGEST: [usize; 2] = [2_048, 128];

/// Bytes of a line for its number, hash and time.
const LINE_BEGIN: usize = 130;

/// A log open for writing.
#[derive(Debug)]
pub(super) struct Log {
    state_dir: PathBuf,
    folder: PathBuf,
    peer: PeerId,
    file_size: u64,
    size: u64,
    file: Option<Open>,
    last: Checkpoint,
}

/// The current file.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    /// Bytes of complete lines.
    length: u64,
    /// Whether a failed write left an incomplete line behind them.
    torn: bool,
}

impl Log {
    /// Opens the log of a state directory. Creates missing files.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub(super) fn open(state_dir: &Path, peer: &PeerId, size: u64) -> io::Result<Self> {
        let folder = state_dir.join(files::FOLDER);
        make(&folder)?;
        let LogEnd { last, file, tell } = recovery::find_end(state_dir, &folder)?;
        let size = size.max(SIZE_MIN);
        let mut log = Self {
            state_dir: state_dir.to_owned(),
            peer: peer.clone(),
            file_size: size / FILES,
            size,
            file: None,
            last,
            folder,
        };
        if let Some(path) = file {
            log.file = Some(Open::existing(path)?);
        }
        if log.last.seq == 0 {
            // Write the head even without lines, so that a missing head later proves its removal.
            log.settle()?;
        }
        for event in tell {
            log.append(&event)?;
        }
        Ok(log)
    }

    /// The current head.
    pub(super) fn last(&self) -> &Checkpoint {
        &self.last
    }

    /// Writes the head file.
    ///
    /// # Errors
    /// If it cannot be written. The lines are in the log anyway.
    pub(super) fn settle(&self) -> io::Result<()> {
        checkpoint::write(&self.state_dir, &self.last)
    }

    /// Appends one line.
    ///
    /// # Errors
    /// If it cannot be written. Then the log has nothing of it, and the next line is tried normally.
    pub(super) fn append(&mut self, event: &AuditEvent) -> io::Result<()> {
        self.look_after_the_file()?;
        let line = self.line(event);
        let too_long = |open: &Open| open.length + line.len() as u64 > self.file_size;
        if self.file.as_ref().is_none_or(too_long) {
            self.rotate()?;
            let line = self.line(event);
            return self.write(&line);
        }
        self.write(&line)
    }

    /// The next line, with a line feed.
    fn line(&self, event: &AuditEvent) -> Vec<u8> {
        let (seq, prev) = (self.last.seq + 1, self.last.hash.clone());
        let mut line = bounded(&AuditEntry { seq, prev, at: super::now(), event: event.clone() });
        line.push(b'\n');
        line
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(open) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = open.file.write_all(line) {
            // Remove the incomplete line. If that fails now, do it before the next line.
            open.torn = open.file.set_len(open.length).is_err();
            return Err(error);
        }
        open.length += line.len() as u64;
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        self.last = Checkpoint { seq: self.last.seq + 1, hash: LineHash::of(text) };
        Ok(())
    }

    /// Checks that the file is as this process left it. If another process changed it, the log continues in a new
    /// file and records that.
    fn look_after_the_file(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.file else { return Ok(()) };
        if open.torn {
            open.file.set_len(open.length)?;
            open.torn = false;
        }
        let what = match open.state()? {
            State::AsLeft => return Ok(()),
            State::Longer => "was written to by somebody else",
            State::Shorter => "was cut short",
            State::Gone => "was removed or replaced",
        };
        let what = format!("{} {what} while the daemon ran", open.path.display());
        tracing::error!(what, "the audit log was tampered with");
        self.file = None;
        self.rotate()?;
        self.tell_damage(what)
    }

    fn tell_damage(&mut self, what: String) -> io::Result<()> {
        let line = self.line(&AuditEvent::Damaged { what });
        self.write(&line)
    }

    /// Starts a new file and removes as many old ones as necessary.
    fn rotate(&mut self) -> io::Result<()> {
        make(&self.folder)?;
        let first = self.last.seq + 1;
        let all = files::all(&self.folder)?;
        let mut total: u64 = all.iter().map(|file| file.size).sum::<u64>() + self.file_size;
        let mut removed = Vec::new();
        let mut oldest = first;
        for file in &all {
            if total <= self.size {
                oldest = file.first.min(first);
                break;
            }
            total -= file.size;
            removed.push(file.path.clone());
        }
        let path = files::path(&self.folder, first);
        let strange = recovery::make_way(&path)?;
        let mut new = OpenOptions::new();
        let file = new.append(true).create_new(true).mode(0o600).open(&path)?;
        let before = self.file.replace(Open { path: path.clone(), file, length: 0, torn: false });
        // Write where the log now starts before removing older files.
        let line = self.line(&AuditEvent::File { peer: self.peer.clone(), oldest });
        if let Err(error) = self.write(&line) {
            self.file = before;
            fs::remove_file(&path)?;
            return Err(error);
        }
        removed.iter().try_for_each(fs::remove_file)?;
        strange.map_or(Ok(()), |what| self.tell_damage(what))
    }
}

/// Serializes a line within the maximum length: replaces long parts by their length and digest.
fn bounded(entry: &impl Serialize) -> Vec<u8> {
    let mut line = decode::to_json(entry);
    for longest in PART_LONGEST {
        if line.len() <= LINE_USUAL {
            break;
        }
        // This JSON was just serialized, so it parses.
        let Ok(mut value) = serde_json::from_slice(&line) else { break };
        shorten(&mut value, longest);
        line = decode::to_json(&value);
    }
    line
}

/// Approximate length of an event's line, in bytes.
pub(super) fn length(event: &AuditEvent) -> usize {
    bounded(event).len() + LINE_BEGIN
}

fn shorten(value: &mut Value, longest: usize) {
    match value {
        Value::String(text) if decode::to_json(text).len() > longest => {
            *text = format!("({} bytes, blake3 {})", text.len(), blake3::hash(text.as_bytes()).to_hex());
        }
        Value::Array(items) => items.iter_mut().for_each(|item| shorten(item, longest)),
        Value::Object(fields) => fields.values_mut().for_each(|field| shorten(field, longest)),
        _ => {}
    }
}

/// Creates the folder but not its parent: a removed state directory must not reappear.
fn make(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// The state of a file since the last write.
enum State {
    AsLeft,
    Longer,
    Shorter,
    Gone,
}

impl Open {
    fn existing(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(&path)?;
        let length = file.metadata()?.len();
        Ok(Self { path, file, length, torn: false })
    }

    fn state(&self) -> io::Result<State> {
        let ours = self.file.metadata()?;
        let there = match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Gone),
            there => there?,
        };
        Ok(match ours.len().cmp(&self.length) {
            _ if (there.dev(), there.ino()) != (ours.dev(), ours.ino()) => State::Gone,
            std::cmp::Ordering::Equal => State::AsLeft,
            std::cmp::Ordering::Greater => State::Longer,
            std::cmp::Ordering::Less => State::Shorter,
        })
    }
}

#[cfg(test)]
mod tests;
