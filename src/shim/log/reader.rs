//! The reading end of a log. Any number of readers work independently.
//!
//! The order of reads matters because the writer continues meanwhile: first the length of the bytes, then the
//! runs. Each byte within that length had its record before it was written.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

use super::segment::{HEADER_BYTES, RECORD_BYTES, Record, bytes_path, read_header, runs_path, starts};
use peerbus_protocol::frame::StreamKind;
use peerbus_protocol::send_buffer::StreamOffsets;

/// Records to read at a time.
const RECORDS_AT_ONCE: usize = 512;

/// How often a segment may disappear between listing and opening. To exceed this, the writer would have to
/// drop segments faster than anybody reads.
const ATTEMPTS: usize = 1_000;

/// Reads a log from any offset. Holds two files and a few KiB, whatever the size of the log.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    segment: Option<Segment>,
}

/// What the log holds at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of one stream, at least one.
    Bytes {
        /// Their stream.
        stream: StreamKind,
        /// The offset of the first byte in that stream.
        offset: u64,
        /// The contiguous bytes, up to the requested number.
        bytes: Bytes,
    },
    /// The bytes at this offset were dropped.
    Dropped {
        /// Where the retained bytes begin: the bytes of each stream before that point.
        to: StreamOffsets,
    },
    /// No bytes yet. The log does not know whether more will follow.
    End,
}

/// The retained range of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// The bytes of each stream before the first retained byte.
    pub first: StreamOffsets,
    /// The bytes of each stream before the end.
    pub end: StreamOffsets,
}

/// The result of a search for an offset.
enum Sought {
    In(Segment),
    Dropped(StreamOffsets),
    Nowhere,
}

impl Reader {
    /// A reader of the log in a directory, which need not exist yet.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), segment: None }
    }

    /// Reads at most `most` bytes at a combined offset. Blocks on the disk.
    ///
    /// # Errors
    /// When a file exists but is unreadable or corrupt.
    pub fn read(&mut self, at: u64, most: usize) -> io::Result<Piece> {
        let piece = self.piece(at, most);
        if piece.is_err() {
            // Forget the position: the next read must see the records before the corrupt one again.
            self.segment = None;
        }
        piece
    }

    fn piece(&mut self, at: u64, most: usize) -> io::Result<Piece> {
        loop {
            let Some(segment) = self.segment.as_mut().filter(|segment| segment.start.sum() <= at) else {
                match self.seek(at)? {
                    Sought::In(segment) => self.segment = Some(segment),
                    Sought::Dropped(to) => return Ok(Piece::Dropped { to }),
                    Sought::Nowhere => return Ok(Piece::End),
                }
                continue;
            };
            if !segment.wake(&self.directory)? {
                self.segment = None;
                continue;
            }
            let end = segment.end()?;
            if at < end {
                return segment.read(at, end, most);
            }
            if !self.moved_on(end)? {
                return Ok(Piece::End);
            }
        }
    }

    /// Closes the files during a pause, because a dropped file uses disk space as long as anybody has it
    /// open.
    pub fn rest(&mut self) {
        if let Some(segment) = &mut self.segment {
            segment.files = None;
        }
    }

    /// The current range of the log. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn extent(&mut self) -> io::Result<Extent> {
        for _ in 0..ATTEMPTS {
            let (Some(first), Some(last)) = (self.first()?, self.last()?) else {
                return Ok(Extent::default());
            };
            let (Some(mut oldest), Some(mut newest)) = (self.open_at(first)?, self.open_at(last)?) else {
                // The writer has just dropped one of them.
                continue;
            };
            let end = newest.end()?;
            return Ok(Extent { first: oldest.totals_at(first)?, end: newest.totals_at(end)? });
        }
        Err(restless(&self.directory))
    }

    /// The bytes of each stream before this combined offset. For an offset outside the retained range, uses
    /// the nearest one inside. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn totals_at(&mut self, at: u64) -> io::Result<StreamOffsets> {
        match self.seek(at)? {
            Sought::In(mut segment) => {
                let end = segment.end()?;
                segment.totals_at(at.min(end))
            }
            Sought::Dropped(to) => Ok(to),
            Sought::Nowhere => Ok(StreamOffsets::default()),
        }
    }

    /// Moves from the end of a segment to the next one, or to the oldest retained one if this segment was
    /// dropped. Returns whether it moved.
    fn moved_on(&mut self, end: u64) -> io::Result<bool> {
        // An empty segment begins and ends at the same offset, and no other segment begins there.
        let is_empty = self.segment.as_ref().is_some_and(|segment| segment.start.sum() == end);
        if let Some(next) = self.open_at(end)?.filter(|_| !is_empty) {
            self.segment = Some(next);
            return Ok(true);
        }
        // List the segments before checking this one: a segment with a successor is no longer written. Its
        // successor may have appeared since the last search, with others after it.
        let follows = |start: &u64| *start > end || (*start == end && !is_empty);
        let behind = starts(&self.directory)?.into_iter().find(follows);
        let Some(segment) = &self.segment else { return Ok(true) };
        if segment.is_removed()? {
            self.segment = None;
            return Ok(true);
        }
        match behind {
            None => Ok(false),
            Some(next) if next == end || segment.end()? > end => Ok(true),
            Some(next) => {
                let name = bytes_path(&self.directory, segment.start.sum());
                Err(broken(&name, &format!("it ends at {end}, and what follows begins at {next}")))
            }
        }
    }

    /// The segment that contains or would contain this offset.
    fn seek(&self, at: u64) -> io::Result<Sought> {
        for _ in 0..ATTEMPTS {
            let starts = starts(&self.directory)?;
            let Some(&first) = starts.first() else { return Ok(Sought::Nowhere) };
            let wanted = starts.iter().rev().find(|start| **start <= at).copied();
            if let Some(segment) = self.open_at(wanted.unwrap_or(first))? {
                return Ok(match wanted {
                    Some(_) => Sought::In(segment),
                    None => Sought::Dropped(segment.start),
                });
            }
            // The writer has just dropped it.
        }
        Err(restless(&self.directory))
    }

    fn first(&self) -> io::Result<Option<u64>> {
        Ok(starts(&self.directory)?.first().copied())
    }

    fn last(&self) -> io::Result<Option<u64>> {
        Ok(starts(&self.directory)?.last().copied())
    }

    fn open_at(&self, start: u64) -> io::Result<Option<Segment>> {
        Segment::open(&self.directory, start)
    }
}

/// One segment, and the reader's position in its runs.
#[derive(Debug)]
struct Segment {
    /// `None` while the reader rests.
    files: Option<Files>,
    start: StreamOffsets,
    name: PathBuf,
    place: RunPosition,
    /// Records that were read but not passed yet, the next one last.
    ahead: Vec<Record>,
    records_read: u64,
}

/// The two files of a segment.
#[derive(Debug)]
struct Files {
    bytes: File,
    runs: File,
}

impl Files {
    /// Opens the files of a segment; `None` if it was dropped. The writer creates the runs before the bytes,
    /// and removes them after.
    fn open(directory: &Path, start: u64) -> io::Result<Option<Self>> {
        let path = bytes_path(directory, start);
        let Some(bytes) = open(&path)? else { return Ok(None) };
        let name = runs_path(directory, start);
        match open(&name)? {
            Some(runs) => Ok(Some(Self { bytes, runs })),
            None if path.try_exists()? => Err(broken(&name, "it is missing")),
            None => Ok(None),
        }
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// The current run: its start and its stream. `None` before the first run.
#[derive(Debug, Clone, Copy)]
struct RunPosition {
    run: StreamOffsets,
    stream: Option<StreamKind>,
}

impl Segment {
    /// Opens the segment at `start`; `None` if it was dropped.
    fn open(directory: &Path, start: u64) -> io::Result<Option<Self>> {
        let Some(files) = Files::open(directory, start)? else { return Ok(None) };
        let name = runs_path(directory, start);
        let totals = read_header(&files.runs).map_err(|error| broken(&name, &error.to_string()))?;
        if totals.out.checked_add(totals.err) != Some(start) {
            return Err(broken(&name, "it begins elsewhere than its name says"));
        }
        let place = RunPosition { run: totals, stream: None };
        let files = Some(files);
        Ok(Some(Self { files, start: totals, name, place, ahead: Vec::new(), records_read: 0 }))
    }

    /// Reopens the files after a rest; returns whether they still exist. What was read of them is still
    /// valid.
    fn wake(&mut self, directory: &Path) -> io::Result<bool> {
        if self.files.is_none() {
            self.files = Files::open(directory, self.start.sum())?;
        }
        Ok(self.files.is_some())
    }

    fn files(&self) -> io::Result<&Files> {
        self.files.as_ref().ok_or_else(|| io::Error::other("a segment that rests is read"))
    }

    /// The combined offset after the last byte written so far.
    fn end(&self) -> io::Result<u64> {
        let length = self.files()?.bytes.metadata()?.len();
        self.start.sum().checked_add(length).ok_or_else(|| broken(&self.name, "it begins beyond all offsets"))
    }

    fn is_removed(&self) -> io::Result<bool> {
        Ok(self.files()?.bytes.metadata()?.nlink() == 0)
    }

    fn read(&mut self, at: u64, end: u64, most: usize) -> io::Result<Piece> {
        let run_end = self.go_to(at, end)?;
        let RunPosition { run, stream: Some(stream) } = self.place else {
            return Err(broken(&self.name, "it says of nobody that these bytes are theirs"));
        };
        let count = usize::try_from(run_end - at).unwrap_or(usize::MAX).min(most.max(1));
        let mut bytes = BytesMut::zeroed(count);
        self.files()?.bytes.read_exact_at(&mut bytes, at - self.start.sum())?;
        Ok(Piece::Bytes { stream, offset: run.of(stream) + (at - run.sum()), bytes: bytes.freeze() })
    }

    fn totals_at(&mut self, at: u64) -> io::Result<StreamOffsets> {
        self.go_to(at, at)?;
        let mut totals = self.place.run;
        if let Some(stream) = self.place.stream {
            *totals.of_mut(stream) += at - totals.sum();
        }
        Ok(totals)
    }

    /// Moves to the run that contains the byte at `at`. Returns the end of that run, at most `end`.
    fn go_to(&mut self, at: u64, end: u64) -> io::Result<u64> {
        if at < self.place.run.sum() {
            self.place = RunPosition { run: self.start, stream: None };
            self.ahead.clear();
            self.records_read = 0;
        }
        loop {
            match self.next_record()? {
                Some(next) if next.start <= at => self.pass(next)?,
                Some(next) => return Ok(next.start.min(end)),
                None => return Ok(end),
            }
        }
    }

    fn pass(&mut self, next: Record) -> io::Result<()> {
        self.ahead.pop();
        let RunPosition { run, stream } = &mut self.place;
        let length = next.start.checked_sub(run.sum());
        let length = length.filter(|length| stream.is_some() || *length == 0);
        let length = length.ok_or_else(|| broken(&self.name, "its records are out of order"))?;
        if let Some(stream) = stream {
            *run.of_mut(*stream) += length;
        }
        *stream = Some(next.stream);
        Ok(())
    }

    /// The next record, without consuming it. A partial record does not count.
    fn next_record(&mut self) -> io::Result<Option<Record>> {
        if self.ahead.is_empty() {
            let mut buffer = [0; RECORDS_AT_ONCE * RECORD_BYTES as usize];
            let from = HEADER_BYTES + self.records_read * RECORD_BYTES;
            let filled = read_up_to(&self.files()?.runs, &mut buffer, from)?;
            let (records, _part) = buffer[..filled].as_chunks();
            self.ahead.extend(records.iter().rev().map(|bytes| Record::of_bytes(*bytes)));
            self.records_read += records.len() as u64;
        }
        Ok(self.ahead.last().copied())
    }
}

/// Fills the buffer as far as the file has bytes.
fn read_up_to(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn restless(directory: &Path) -> io::Error {
    io::Error::other(format!("{}: its segments come and go", directory.display()))
}

/// The error for a corrupt file. If it is the `.runs` file, the bytes themselves are still there.
fn broken(file: &Path, why: &str) -> io::Error {
    let bytes = file.with_extension("");
    let there = match file.extension().is_some() && bytes.is_file() {
        true => format!("; the bytes themselves, of both streams, are in {}", bytes.display()),
        false => String::new(),
    };
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}{there}", file.display()))
}
