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
use crate::protocol::frame::StreamKind;
use crate::protocol::window::Totals;

/// Records read at a time.
const RECORDS_AT_ONCE: usize = 512;

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
        to: Totals,
    },
    /// Nothing, now. Whether there will be more, and whether that was all, the log does not know.
    End,
}

/// How far a log reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// How much of each stream came before the first byte that is held.
    pub first: Totals,
    /// The same of the byte after the last one.
    pub end: Totals,
}

/// Where something was looked for.
enum Sought {
    In(Segment),
    Dropped(Totals),
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
        loop {
            let Some(segment) = self.segment.as_mut().filter(|segment| segment.start.sum() <= at) else {
                match self.seek(at)? {
                    Sought::In(segment) => self.segment = Some(segment),
                    Sought::Dropped(to) => return Ok(Piece::Dropped { to }),
                    Sought::Nowhere => return Ok(Piece::End),
                }
                continue;
            };
            let end = segment.end()?;
            if at < end {
                return segment.read(at, end, most);
            }
            if !self.moved_on(end)? {
                return Ok(Piece::End);
            }
        }
    }

    /// How far the log reaches now. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn extent(&mut self) -> io::Result<Extent> {
        loop {
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
    }

    /// How much of each stream came before this combined offset; where that is no longer held or not
    /// yet there, before the nearest one that is. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn totals_at(&mut self, at: u64) -> io::Result<Totals> {
        match self.seek(at)? {
            Sought::In(mut segment) => {
                let end = segment.end()?;
                segment.totals_at(at.min(end))
            }
            Sought::Dropped(to) => Ok(to),
            Sought::Nowhere => Ok(Totals::default()),
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
        let is_dropped = self.segment.as_ref().is_some_and(Segment::is_removed);
        if is_dropped {
            self.segment = None;
        }
        Ok(is_dropped)
    }

    /// The segment that has this offset, or would have it.
    fn seek(&self, at: u64) -> io::Result<Sought> {
        loop {
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
    }

    fn first(&self) -> io::Result<Option<u64>> {
        Ok(starts(&self.directory)?.first().copied())
    }

    fn last(&self) -> io::Result<Option<u64>> {
        Ok(starts(&self.directory)?.last().copied())
    }

    fn open_at(&self, start: u64) -> io::Result<Option<Segment>> {
        match Segment::open(&self.directory, start) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }
}

/// One segment, and where in its runs the reader is.
#[derive(Debug)]
struct Segment {
    bytes: File,
    runs: File,
    start: Totals,
    name: PathBuf,
    place: Place,
    /// Records that were read and are not passed yet, the next one last.
    ahead: Vec<Record>,
    records_read: u64,
}

/// The run that the reader is in: where it begins, and whose it is. Before the first run it is nobody's.
#[derive(Debug, Clone, Copy)]
struct Place {
    run: Totals,
    stream: Option<StreamKind>,
}

impl Segment {
    fn open(directory: &Path, start: u64) -> io::Result<Self> {
        let bytes = File::open(bytes_path(directory, start))?;
        let name = runs_path(directory, start);
        let runs = File::open(&name)?;
        let totals = read_header(&runs).map_err(|error| broken(&name, &error.to_string()))?;
        if totals.out.checked_add(totals.err) != Some(start) {
            return Err(broken(&name, "it begins elsewhere than its name says"));
        }
        let place = Place { run: totals, stream: None };
        Ok(Self { bytes, runs, start: totals, name, place, ahead: Vec::new(), records_read: 0 })
    }

    /// The combined offset after its last byte, as far as it was written by now.
    fn end(&self) -> io::Result<u64> {
        Ok(self.start.sum() + self.bytes.metadata()?.len())
    }

    fn is_removed(&self) -> bool {
        self.bytes.metadata().is_ok_and(|file| file.nlink() == 0)
    }

    fn read(&mut self, at: u64, end: u64, most: usize) -> io::Result<Piece> {
        let run_end = self.go_to(at, end)?;
        let Place { run, stream: Some(stream) } = self.place else {
            return Err(broken(&self.name, "it says of nobody that these bytes are theirs"));
        };
        let count = usize::try_from(run_end - at).unwrap_or(usize::MAX).min(most.max(1));
        let mut bytes = BytesMut::zeroed(count);
        self.bytes.read_exact_at(&mut bytes, at - self.start.sum())?;
        Ok(Piece::Bytes { stream, offset: run.of(stream) + (at - run.sum()), bytes: bytes.freeze() })
    }

    fn totals_at(&mut self, at: u64) -> io::Result<Totals> {
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
            self.place = Place { run: self.start, stream: None };
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
        let Place { run, stream } = &mut self.place;
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
            let filled = read_up_to(&self.runs, &mut buffer, from)?;
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

fn broken(file: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", file.display()))
}
