//! The files of an audit log: their names, and reading them line by line.
//!
//! A file is called after the number of its first line, so that names sort as lines do. Whatever
//! else is in the folder is none of the log's business.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use peerbus_protocol::audit::{Cursor, LINE_MAX};

/// The folder below a state directory.
pub(super) const FOLDER: &str = "audit";

const ENDING: &str = ".jsonl";

/// Digits of a name: as many as the largest number has.
const DIGITS: usize = 20;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogFile {
    /// The number of its first line.
    pub(super) first: u64,
    pub(super) path: PathBuf,
    /// In bytes, when it was looked at.
    pub(super) size: u64,
}

pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:0DIGITS$}{ENDING}"))
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(ENDING)?;
    (digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

/// All files, oldest first; none where there is no folder.
pub(super) fn all(folder: &Path) -> io::Result<Vec<LogFile>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(first) = entry.file_name().to_str().and_then(number) else { continue };
        // Not through links: what is elsewhere is not the log's.
        let there = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            there => there?,
        };
        if there.is_file() {
            files.push(LogFile { first, path: entry.path(), size: there.len() });
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// A line, or what there is of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it begins.
    pub(super) at: Cursor,
    /// Its bytes, without the line end.
    pub(super) bytes: Vec<u8>,
    /// Whether it has a line end. Where not, it is being written, or its writer was killed; or it is
    /// a piece of a line that is longer than any can be.
    pub(super) whole: bool,
}

/// Reads lines from a place on, across files.
#[derive(Debug)]
pub(super) struct Lines {
    files: std::vec::IntoIter<LogFile>,
    open: Option<(u64, BufReader<File>)>,
    offset: u64,
}

impl Lines {
    /// From a place on; at the oldest line where its file is no more.
    pub(super) fn from(files: Vec<LogFile>, from: Option<Cursor>) -> io::Result<Self> {
        let from = from.unwrap_or(Cursor { file: 0, offset: 0 });
        let later: Vec<LogFile> = files.into_iter().filter(|file| file.first >= from.file).collect();
        let mut lines = Self { files: later.into_iter(), open: None, offset: 0 };
        if lines.next_file()?
            && lines.file() == Some(from.file)
            && let Some((_, reader)) = &mut lines.open
        {
            reader.seek(SeekFrom::Start(from.offset))?;
            lines.offset = from.offset;
        }
        Ok(lines)
    }

    fn file(&self) -> Option<u64> {
        self.open.as_ref().map(|(file, _)| *file)
    }

    fn next_file(&mut self) -> io::Result<bool> {
        (self.open, self.offset) = (None, 0);
        for file in self.files.by_ref() {
            match File::open(&file.path) {
                // Rotated out since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => {
                    self.open = Some((file.first, BufReader::new(opened?)));
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The next line; none at the end of the last file.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let Some((file, reader)) = &mut self.open else { return Ok(None) };
            let mut bytes = Vec::new();
            let most = LINE_MAX as u64 + 1;
            let read = reader.take(most).read_until(b'\n', &mut bytes)?;
            if read == 0 {
                self.next_file()?;
                continue;
            }
            let at = Cursor { file: *file, offset: self.offset };
            self.offset += read as u64;
            let whole = bytes.last() == Some(&b'\n');
            if whole {
                bytes.pop();
            }
            return Ok(Some(Line { at, bytes, whole }));
        }
    }
}

/// The files in which a line of this time or later may be.
pub(super) fn since(files: Vec<LogFile>, since: SystemTime) -> Vec<LogFile> {
    let later = |file: &LogFile| {
        let written = fs::metadata(&file.path).and_then(|there| there.modified());
        written.map_or(true, |written| written >= since)
    };
    files.into_iter().filter(later).collect()
}

/// Where the last `count` lines begin; none for the very begin.
pub(super) fn last(files: &[LogFile], count: u32) -> io::Result<Option<Cursor>> {
    let mut missing = count as usize;
    for file in files.iter().rev() {
        let mut starts = Vec::new();
        let mut lines = Lines::from(vec![file.clone()], None)?;
        while let Some(line) = lines.next()? {
            starts.push(line.at);
        }
        if let Some(index) = starts.len().checked_sub(missing) {
            return Ok(Some(
                starts.get(index).copied().unwrap_or(Cursor { file: file.first, offset: file.size }),
            ));
        }
        missing -= starts.len();
    }
    Ok(None)
}
