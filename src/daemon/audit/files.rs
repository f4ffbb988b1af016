//! The files of an audit log: their names, and reading them line by line.
//!
//! A file is named after the number of its first line, so names sort as lines do. The log ignores other files in
//! the folder.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use peerbus_protocol::audit::{Cursor, LINE_MAX};

/// Folder name below the state directory.
pub(super) const FOLDER: &str = "audit";

const ENDING: &str = ".jsonl";

/// Digits of a file name: as many as the largest number has.
const DIGITS: usize = 20;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogFile {
    /// The number of its first line.
    pub(super) first: u64,
    pub(super) path: PathBuf,
    /// Its size in bytes when it was listed.
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

/// All files, oldest first. Empty if there is no folder.
pub(super) fn all(folder: &Path) -> io::Result<Vec<LogFile>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(first) = entry.file_name().to_str().and_then(number) else { continue };
        // Does not follow links: the log has no files elsewhere.
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

/// A complete or incomplete line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its position.
    pub(super) at: Cursor,
    /// Its bytes, without the line feed.
    pub(super) bytes: Vec<u8>,
    /// Whether it has a line feed. If not, it is being written, its writer was killed, or it is a piece of a line
    /// beyond the maximum length.
    pub(super) whole: bool,
}

/// Reads lines from a position on, across files.
#[derive(Debug)]
pub(super) struct Lines {
    files: std::vec::IntoIter<LogFile>,
    open: Option<(u64, BufReader<File>)>,
    offset: u64,
}

impl Lines {
    /// Starts at a position, or at the oldest line if that file is gone.
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
                // Removed by rotation since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => {
                    self.open = Some((file.first, BufReader::new(opened?)));
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The next line. `None` at the end of the last file.
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

/// The files that may have a line of this time or later.
pub(super) fn since(files: Vec<LogFile>, since: SystemTime) -> Vec<LogFile> {
    let later = |file: &LogFile| {
        let written = fs::metadata(&file.path).and_then(|there| there.modified());
        written.map_or(true, |written| written >= since)
    };
    files.into_iter().filter(later).collect()
}

/// The position of the last `count` lines. `None` means the start of the log.
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
