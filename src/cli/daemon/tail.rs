//! A log, its end, and what is added to it.
//!
//! Guarantees: what is followed comes once and in order, also when the log is put aside meanwhile
//! (the rest of the old one comes first) or emptied (it begins anew). What was put aside twice since
//! the last look is gone: that is 10 MiB between two looks.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use peerbus_process::older;

/// Reads a log, and goes on where it was.
pub(super) struct Follower {
    path: PathBuf,
    file: File,
    at: u64,
}

impl Follower {
    /// Opens a log at its beginning.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: File::open(path)?, at: 0 })
    }

    /// What was added since the last time.
    pub(super) fn more(&mut self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        self.read(&mut text)?;
        while let Some(next) = self.next_file()? {
            // What was added before it was put aside: after that nobody adds to it.
            self.read(&mut text)?;
            (self.file, self.at) = (next, 0);
            self.read(&mut text)?;
        }
        Ok(text)
    }

    fn read(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        if self.file.metadata()?.len() < self.at {
            self.at = 0;
        }
        self.file.seek(SeekFrom::Start(self.at))?;
        self.at += self.file.read_to_end(text)? as u64;
        Ok(())
    }

    /// The file after this one: the log itself, or one between that was put aside as well. `None` while
    /// this one is the log, and in the instant in which there is none.
    fn next_file(&self) -> io::Result<Option<File>> {
        let own = self.file.metadata()?.ino();
        let is_own = |path: &Path| fs::metadata(path).map(|file| file.ino() == own);
        match is_own(&self.path) {
            Ok(true) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let aside = older(&self.path);
        let between = matches!(is_own(&aside), Ok(false)) && is_newer(&aside, &self.file)?;
        File::open(if between { &aside } else { &self.path }).map(Some)
    }
}

/// Whether the file of this name was last written after that one.
fn is_newer(path: &Path, than: &File) -> io::Result<bool> {
    Ok(fs::metadata(path)?.modified()? > than.metadata()?.modified()?)
}

/// The last lines of a log, those of the one that was put aside included where they are needed.
pub(super) fn last_lines(follower: &mut Follower, lines: usize) -> io::Result<Vec<u8>> {
    let mut text = follower.more()?;
    if newlines(&text) < lines {
        match fs::read(older(&follower.path)) {
            Ok(mut before) => {
                before.append(&mut text);
                text = before;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let begin = begin_of_last(&text, lines);
    Ok(text.split_off(begin))
}

fn newlines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

fn begin_of_last(text: &[u8], lines: usize) -> usize {
    // The newline at the very end ends the last line and begins none.
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let begins = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    match lines {
        0 => text.len(),
        _ => begins.chain([0]).nth(lines - 1).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn add(path: &Path, text: &str) {
        let mut file = File::options().append(true).create(true).open(path).expect("a log");
        file.write_all(text.as_bytes()).expect("room");
    }

    fn more(follower: &mut Follower) -> String {
        String::from_utf8(follower.more().expect("a log")).expect("text")
    }

    #[test]
    fn the_last_lines_are_counted_from_the_end() {
        for (lines, wanted) in [(0, ""), (1, "c\n"), (2, "b\nc\n"), (3, "a\nb\nc\n"), (9, "a\nb\nc\n")] {
            let text = b"a\nb\nc\n";
            assert_eq!(&text[begin_of_last(text, lines)..], wanted.as_bytes(), "{lines}");
        }
        assert_eq!(begin_of_last(b"a\nunfinished", 1), 2);
        assert_eq!(begin_of_last(b"", 5), 0);
    }

    #[test]
    fn what_is_added_comes_once_across_putting_aside_and_emptying() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        add(&path, "1\n");
        let mut follower = Follower::open(&path).expect("a log");
        assert_eq!(more(&mut follower), "1\n");
        assert_eq!(more(&mut follower), "");
        add(&path, "2\n");
        fs::rename(&path, older(&path)).expect("put aside");
        assert_eq!(more(&mut follower), "2\n");
        add(&older(&path), "3\n");
        add(&path, "4\n");
        assert_eq!(more(&mut follower), "3\n4\n");
        add(&path, "a longer line\n");
        assert_eq!(more(&mut follower), "a longer line\n");
        File::options().write(true).open(&path).expect("a log").set_len(0).expect("emptied");
        add(&path, "5\n");
        assert_eq!(more(&mut follower), "5\n");
    }

    #[test]
    fn the_one_put_aside_helps_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        add(&older(&path), "1\n2\n");
        add(&path, "3\n");
        let mut follower = Follower::open(&path).expect("a log");
        assert_eq!(last_lines(&mut follower, 2).expect("lines"), b"2\n3\n");
        assert_eq!(more(&mut follower), "");
    }
}
