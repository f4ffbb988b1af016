//! The reading end of a log: any number of them, each at its own pace.
//!
//! The order of looks matters, because the writer goes on meanwhile: first how long the bytes are,
//! then the runs. Whatever byte was there at the first look had its record before it was written.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

use super::segment::{HEADER_BYTES, RECORD_BYTES, Record, bytes_path, read_header, runs_path, starts};
use peerbus_protocol::frame::StreamKind;
use peerbus_protocol::send_buffer::StreamOffsets;

/// Records read at a time.
const RECORDS_AT_ONCE: usize = 512;

/// How often a segment may go away between the look for it and its opening. A writer that drops one each time would
/// have to be quicker than anybody reads.
const ATTEMPTS: usize = 1_000;

/// Reads a log from wherever it is asked to. Holds two files and a few KiB, whatever the log.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    segment: Option<Segment>,
}

/// What is at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of one stream, at least one.
    Bytes {
        /// Whose they are.
        stream: StreamKind,
        /// Where the first of them stands in that stream.
        offset: u64,
        /// As many as are there together, and were asked for.
        bytes: Bytes,
    },
    /// What was there is no longer kept.
    Dropped {
        /// From where there is something: how much of each stream came before it.
        to: StreamOffsets,
    },
    /// Nothing, now. Whether there will be more, and whether that was all, the log does not know.
    End,
}

/// How far a log reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// How much of each stream came before the first byte that is held.
    pub first: StreamOffsets,
    /// The same of the byte after the last one.
    pub end: StreamOffsets,
}

/// Where something was looked for.
enum Sought {
    In(Segment),
    Dropped(StreamOffsets),
    Nowhere,
}

impl Reader {
    /// A reader of the log in a directory, which need not be there yet.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), segment: None }
    }

    /// What is at this combined offset, at most so many bytes of it. Blocks on the disk.
    ///
    /// # Errors
    /// When a file is there and cannot be read, or says what no writer writes.
    pub fn read(&mut self, at: u64, most: usize) -> io::Result<Piece> {
        let piece = self.piece(at, most);
        if piece.is_err() {
            // Whatever was passed on the way to what is wrong is to be passed again, or the next look would miss it.
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

    /// Nothing will be read for a while: lets go of the files, because one that is dropped takes its room on the disk
    /// for as long as anybody has it open.
    pub fn rest(&mut self) {
        if let Some(segment) = &mut self.segment {
            segment.files = None;
        }
    }

    /// How far the log reaches now. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn extent(&mut self) -> io::Result<Extent> {
        for _ in 0..ATTEMPTS {
            let (Some(first), Some(last)) = (self.first()?, self.last()?) else {
                return Ok(Extent::default());
            };
            let (Some(mut oldest), Some(mut newest)) = (self.open_at(first)?, self.open_at(last)?) else {
                // The writer dropped one of them just now.
                continue;
            };
            let end = newest.end()?;
            return Ok(Extent { first: oldest.totals_at(first)?, end: newest.totals_at(end)? });
        }
        Err(restless(&self.directory))
    }

    /// How much of each stream came before this combined offset; where that is no longer held or not
    /// yet there, before the nearest one that is. Blocks on the disk.
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

    /// Goes from the end of a segment to the next one, or to what is left of the log when this segment is
    /// no longer a part of it. Says whether it went anywhere.
    fn moved_on(&mut self, end: u64) -> io::Result<bool> {
        // An empty segment ends where it begins, and no other follows it there.
        let is_empty = self.segment.as_ref().is_some_and(|segment| segment.start.sum() == end);
        if let Some(next) = self.open_at(end)?.filter(|_| !is_empty) {
            self.segment = Some(next);
            return Ok(true);
        }
        // Looked at before the segment: what is followed by another is not written any more. The next one may have
        // come since it was looked for, and others behind it.
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

    /// The segment that has this offset, or would have it.
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
            // The writer dropped it just now.
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

/// One segment, and where in its runs the reader is.
#[derive(Debug)]
struct Segment {
    /// None while it rests.
    files: Option<Files>,
    start: StreamOffsets,
    name: PathBuf,
    place: RunPosition,
    /// Records that were read and are not passed yet, the next one last.
    ahead: Vec<Record>,
    records_read: u64,
}

/// The bytes of a segment, and its runs.
#[derive(Debug)]
struct Files {
    bytes: File,
    runs: File,
}

impl Files {
    /// Those of a segment; none where it is dropped. The runs are there before the bytes, and go after them.
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

/// The run that the reader is in: where it begins, and whose it is. Before the first run it is nobody's.
#[derive(Debug, Clone, Copy)]
struct RunPosition {
    run: StreamOffsets,
    stream: Option<StreamKind>,
}

impl Segment {
    /// The one that begins there; none where it is dropped.
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

    /// Opens it again where it has rested; says whether it is still there. Nothing that was read of it has changed.
    fn wake(&mut self, directory: &Path) -> io::Result<bool> {
        if self.files.is_none() {
            self.files = Files::open(directory, self.start.sum())?;
        }
        Ok(self.files.is_some())
    }

    fn files(&self) -> io::Result<&Files> {
        self.files.as_ref().ok_or_else(|| io::Error::other("a segment that rests is read"))
    }

    /// The combined offset after its last byte, as far as it was written by now.
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

    /// Goes to the run that has the byte at `at`; returns where that run ends, at most `end`.
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

    /// The next record, without passing it. A part of one is none.
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

/// Fills as much of the buffer as the file has.
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

/// Something is wrong with a file. Where it is the one that says whose the bytes are, these are there all the same.
fn broken(file: &Path, why: &str) -> io::Error {
    let bytes = file.with_extension("");
    let there = match file.extension().is_some() && bytes.is_file() {
        true => format!("; the bytes themselves, of both streams, are in {}", bytes.display()),
        false => String::new(),
    };
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}{there}", file.display()))
}
