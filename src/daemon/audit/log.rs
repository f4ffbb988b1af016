//! The log on disk: lines are added at its end, and files rotated within a size.
//!
//! Guarantees: a line is written whole or not at all; the head never goes beyond the lines; what is
//! found at the end of the log when it is opened, or beside what this process wrote, is either gone
//! on from or told in the log itself, and never silently mended.

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

/// Into how many files a log is divided: when it is full, this part of it goes at once.
const FILES: u64 = 8;

/// How large a log may be, all its files together, unless the configuration says otherwise: about
/// 60,000 jobs.
pub const SIZE: u64 = 64 << 20;

/// The smallest size that can be asked for: the longest line has to fit into a file.
pub const SIZE_MIN: u64 = FILES * LINE_MAX as u64;

/// Longest line of which nothing is replaced, in bytes: a command of as many characters as a line quotes, and all else
/// that is usual.
const LINE_USUAL: usize = LINE_MAX / 2;

/// How long a part may be of a line that is longer, in bytes as JSON: of as many parts as there can be, the second is
/// short enough.
const PART_LONGEST: [usize; 2] = [2_048, 128];

/// What number, hash and time take of a line, in bytes.
const LINE_BEGIN: usize = 130;

/// A log that can be written.
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

/// The file that is written to.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    /// Bytes that are lines.
    length: u64,
    /// Whether half a line is beyond them, left by a write that failed.
    torn: bool,
}

impl Log {
    /// Opens the log of a state directory, making what is missing.
    ///
    /// # Errors
    /// When it cannot be read or written.
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
            // Without lines; so that a head that is missing later was removed.
            log.settle()?;
        }
        for event in tell {
            log.append(&event)?;
        }
        Ok(log)
    }

    /// How far it goes.
    pub(super) fn last(&self) -> &Checkpoint {
        &self.last
    }

    /// Writes the head down.
    ///
    /// # Errors
    /// When it cannot be written; the lines are there all the same.
    pub(super) fn settle(&self) -> io::Result<()> {
        checkpoint::write(&self.state_dir, &self.last)
    }

    /// Writes one line.
    ///
    /// # Errors
    /// When it cannot be written. Then nothing of it is in the log, and the next one is tried anew.
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

    /// The next line, with its line end.
    fn line(&self, event: &AuditEvent) -> Vec<u8> {
        let (seq, prev) = (self.last.seq + 1, self.last.hash.clone());
        let mut line = bounded(&AuditEntry { seq, prev, at: super::now(), event: event.clone() });
        line.push(b'\n');
        line
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(open) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = open.file.write_all(line) {
            // Half a line is none. Where it cannot be cut off now, it is before the next one.
            open.torn = open.file.set_len(open.length).is_err();
            return Err(error);
        }
        open.length += line.len() as u64;
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        self.last = Checkpoint { seq: self.last.seq + 1, hash: LineHash::of(text) };
        Ok(())
    }

    /// Sees whether the file is as it was left. One that is another's by now is not written to: the
    /// log goes on in a new one, and says so.
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

    /// Begins a new file, and removes as many old ones as have to go for it.
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
        // The file says itself how far back the log goes, before what is older is removed.
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

/// A line as text, never longer than a reader takes: long parts of it are replaced by their length and digest.
fn bounded(entry: &impl Serialize) -> Vec<u8> {
    let mut line = decode::to_json(entry);
    for longest in PART_LONGEST {
        if line.len() <= LINE_USUAL {
            break;
        }
        // What was just written as JSON can be read as such.
        let Ok(mut value) = serde_json::from_slice(&line) else { break };
        shorten(&mut value, longest);
        line = decode::to_json(&value);
    }
    line
}

/// About how long the line of an event is, in bytes.
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

/// Makes the folder, and not the one it is in: a state directory that was removed is not to come back.
fn make(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// What became of a file since it was written to.
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
