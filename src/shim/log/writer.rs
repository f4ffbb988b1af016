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

/// Number of segments of a log; one is dropped at a time.
const SEGMENTS: u64 = 8;

/// Smallest size of a segment, in bytes. A smaller one would consist of headers.
const SEGMENT_LEAST: u64 = 4096;

/// Appends to a log.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    /// Largest size of a segment, in bytes, both files together.
    segment_most: u64,
    limit: u64,
    totals: StreamOffsets,
    /// Full segments, the oldest first.
    full: VecDeque<Full>,
    current: Current,
}

#[derive(Debug)]
struct Full {
    start: StreamOffsets,
    size: u64,
}

/// The segment being written.
#[derive(Debug)]
struct Current {
    bytes: File,
    runs: File,
    start: StreamOffsets,
    /// The valid length of both files. The next write overwrites the remains of a failed one.
    bytes_length: u64,
    runs_length: u64,
    /// The stream of the next byte, according to the runs.
    stream: Option<StreamKind>,
}

impl Writer {
    /// Creates a log in a directory, with mode 0700. `limit` is the maximum size in bytes; values below 32
    /// KiB count as 32 KiB.
    ///
    /// # Errors
    /// The system's error.
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

    /// Appends output of a stream. Removes the written bytes from the front of `bytes`: after an error, as on
    /// a full disk, the rest can be retried.
    ///
    /// # Errors
    /// The system's error.
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

    /// The bytes of each stream since the beginning.
    #[must_use]
    pub fn totals(&self) -> StreamOffsets {
        self.totals
    }

    /// The bytes of each stream before the first retained byte.
    #[must_use]
    pub fn first(&self) -> StreamOffsets {
        self.full.front().map_or(self.current.start, |oldest| oldest.start)
    }

    /// Starts the next segment after dropping the oldest ones to make room. Can be retried after an error.
    fn roll(&mut self) -> io::Result<()> {
        while self.size() + self.segment_most > self.limit {
            let Some(oldest) = self.full.front() else { break };
            let start = oldest.start.sum();
            remove(&bytes_path(&self.directory, start))?;
            remove(&runs_path(&self.directory, start))?;
            self.full.pop_front();
        }
        // If somebody removed the directory, recreate it: the job must not block.
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
    /// Creates the runs first, because readers find a segment by its bytes file.
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

    /// Records the stream of the byte at this combined offset.
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

/// Removes a file; an earlier attempt may have removed it already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
