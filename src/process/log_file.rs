//! The log of a daemon that has no terminal: its standard output and error, in a file that stays
//! small.
//!
//! Guarantees: whatever the process says lands there, a panic and the words of the C library too,
//! because the file itself is the process' standard error and there is nothing in between that could
//! die first. A file that has reached [`LOG_LIMIT`] is renamed to `<name>.1`, in place of an older
//! one, and a new one takes over; every line is in one of the two. So all logs of a daemon together
//! take about twice [`LOG_LIMIT`].
//!
//! Limits: the size is looked at when a line is logged. A line that cannot be written, as on a full
//! disk, is counted, and the count is written as soon as there is room.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2_stderr, dup2_stdout};

/// Bytes after which a log is put aside: two of them are still quickly read and copied.
pub const LOG_LIMIT: u64 = 10 * 1024 * 1024;

/// What others may not do with the files of a daemon and its jobs: the usual, whatever the shell had
/// that started it.
const USUAL_UMASK: Mode = Mode::from_bits_truncate(0o022);

/// This process' standard output and error, as a file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// The size at which it is put aside.
    limit: u64,
    /// Lines that could not be written.
    lost: u64,
}

impl LogFile {
    /// Makes the file this process' standard output and error, and gives the process the usual
    /// umask. Only its owner can read it.
    ///
    /// # Errors
    /// When the file cannot be opened or made.
    pub fn take_over(path: &Path) -> io::Result<Self> {
        let file = open_log(path)?;
        become_output(&file)?;
        umask(USUAL_UMASK);
        Ok(Self { path: path.to_owned(), file, limit: LOG_LIMIT, lost: 0 })
    }

    fn rotate_if_large(&mut self) {
        let size = self.file.metadata().map_or(0, |file| file.len());
        if size < self.limit {
            return;
        }
        self.limit = match self.rotate() {
            Ok(()) => LOG_LIMIT,
            Err(error) => {
                // It is said where it will be read, and tried again later.
                let _ = writeln!(self.file, "putting the log {} aside: {error}", self.path.display());
                size + LOG_LIMIT
            }
        };
    }

    fn rotate(&mut self) -> io::Result<()> {
        match fs::rename(&self.path, older(&self.path)) {
            // Somebody removed it: a new one is wanted all the same.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let next = open_log(&self.path)?;
        become_output(&next)?;
        self.file = next;
        Ok(())
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.lost > 0 {
            writeln!(self.file, "{} lines of the log could not be written", self.lost)?;
            self.lost = 0;
        }
        self.file.write_all(line)
    }
}

impl Write for LogFile {
    /// Takes all of it, whatever becomes of the file: a full disk must not stop a daemon.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.try_write(line) {
            Ok(()) => self.rotate_if_large(),
            Err(_) => self.lost += 1,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens a log to add to it; makes it, readable by its owner only, where there is none.
///
/// # Errors
/// What the system says.
pub fn open_log(path: &Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Where a log is put aside.
#[must_use]
pub fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

fn become_output(file: &File) -> io::Result<()> {
    dup2_stdout(file)?;
    dup2_stderr(file)?;
    Ok(())
}
