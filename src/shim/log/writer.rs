//! The writing end of a log: one per job.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};

use super::segment::{HEADER_BYTES, RECORD_BYTES, Record, bytes_path, header, runs_path};
use peerbus_protocol::frame::StreamKind;
use peerbus_protocol::send_buffer::StreamOffsets;

/// A log is kept in this many parts; one of them is dropped at a time.
const SEGMENTS: u64 = 8;

/// No segment is smaller, in bytes: it would be all headers.
const SEGMENT_LEAST: u64 = 4096;

/// Appends to a log.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    /// Most bytes of a segment, both of its files together.
    segment_most: u64,
    limit: u64,
    totals: StreamOffsets,
    /// Segments that are full, the oldest first.
    full: VecDeque<Full>,
    current: Current,
}

#[derive(Debug)]
struct Full {
    start: StreamOffsets,
    size: u64,
}

/// The segment that is being written.
#[derive(Debug)]
struct Current {
    bytes: File,
    runs: File,
    start: StreamOffsets,
    /// How long both files are. What a failed write has left behind that is written over.
    bytes_length: u64,
    runs_length: u64,
    /// Whose the next byte is, as the runs say.
    stream: Option<StreamKind>,
}

impl Writer {
    /// Begins a log in a directory, which is made (0700). `limit` is the most bytes that it may take;
    /// less than 32 KiB counts as that.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(directory: &Path, limit: u64) -> io::Result<Self> {
        make(directory)?;
        let segment_most = (limit / SEGMENTS).max(SEGMENT_LEAST);
        Ok(Self {
            directory: directory.to_owned(),
            segment_most,
            limit: limit.max(SEGMENT_LEAST * SEGMENTS),
            totals: StreamOffsets::default(),
            full: VecDeque::new(),
            current: Current::create(directory, StreamOffsets::default())?,
        })
    }

    /// Appends what was read from a stream. What was written is taken off the front of `bytes`: after
    /// an error, as on a full disk, the rest is still in there, to be tried again.
    ///
    /// # Errors
    /// What the system says.
    pub fn append(&mut self, stream: StreamKind, bytes: &mut Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.current.size() + RECORD_BYTES >= self.segment_most {
                self.roll()?;
            }
            self.current.is_of(stream, self.totals.sum())?;
            let room = self.segment_most.saturating_sub(self.current.size());
            let most = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let written = self.current.write(&bytes[..most])?;
            *self.totals.of_mut(stream) += written as u64;
            bytes.advance(written);
        }
        Ok(())
    }

    /// How much of each stream was written since the beginning.
    #[must_use]
    pub fn totals(&self) -> StreamOffsets {
        self.totals
    }

    /// How much of each stream came before the first byte that is still held.
    #[must_use]
    pub fn first(&self) -> StreamOffsets {
        self.full.front().map_or(self.current.start, |oldest| oldest.start)
    }

    /// Begins the next segment, after the oldest have made room for it. May be tried again after an
    /// error.
    fn roll(&mut self) -> io::Result<()> {
        while self.size() + self.segment_most > self.limit {
            let Some(oldest) = self.full.front() else { break };
            let start = oldest.start.sum();
            remove(&bytes_path(&self.directory, start))?;
            remove(&runs_path(&self.directory, start))?;
            self.full.pop_front();
        }
        // Whoever takes the directory away wants no log, and the job must not wait for one.
        make(&self.directory)?;
        let next = Current::create(&self.directory, self.totals)?;
        let full = std::mem::replace(&mut self.current, next);
        self.full.push_back(Full { start: full.start, size: full.size() });
        Ok(())
    }

    fn size(&self) -> u64 {
        self.full.iter().map(|full| full.size).sum::<u64>() + self.current.size()
    }
}

impl Current {
    /// The runs come first: a reader finds a segment by its bytes.
    fn create(directory: &Path, start: StreamOffsets) -> io::Result<Self> {
        let open =
            |path: PathBuf| File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
        let runs = open(runs_path(directory, start.sum()))?;
        runs.write_all_at(&header(start), 0)?;
        let bytes = open(bytes_path(directory, start.sum()))?;
        Ok(Self { bytes, runs, start, bytes_length: 0, runs_length: HEADER_BYTES, stream: None })
    }

    fn size(&self) -> u64 {
        self.bytes_length + self.runs_length
    }

    /// Notes whose the byte at this combined offset is.
    fn is_of(&mut self, stream: StreamKind, start: u64) -> io::Result<()> {
        if self.stream == Some(stream) {
            return Ok(());
        }
        self.runs.write_all_at(&Record { start, stream }.to_bytes(), self.runs_length)?;
        self.runs_length += RECORD_BYTES;
        self.stream = Some(stream);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.bytes.write_at(bytes, self.bytes_length) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.bytes_length += written as u64;
                    return Ok(written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Removes a file that an earlier attempt may have removed.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
