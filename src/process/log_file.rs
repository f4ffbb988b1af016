//! The log of a daemon without a terminal: its standard output and error in a file of limited size.
//!
//! Guarantees: everything the process writes is logged, even a panic or messages of the C library, because
//! the file itself is standard error. A file that has reached [`LOG_LIMIT`] is renamed to `<name>.1`,
//! replacing an older one, and a new file is started. Each line is in one of the two, so a daemon's logs take
//! about twice [`LOG_LIMIT`].
//!
//! Limits: the size is checked when a line is logged. A line that cannot be written, as on a full disk, is
//! counted; the count is logged as soon as there is space.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2_stderr, dup2_stdout};

/// Size in bytes at which a log is rotated. Two of them are still quick to read and copy.
pub const LOG_LIMIT: u64 = 10 * 1024 * 1024;

/// The usual umask for the files of a daemon and its jobs, whatever the starting shell had.
const USUAL_UMASK: Mode = Mode::from_bits_truncate(0o022);

/// The file behind this process' standard output and error.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// The size at which the log is rotated.
    limit: u64,
    /// Lines that could not be written.
    lost: u64,
}

impl LogFile {
    /// Redirects standard output and error to the file, and sets the usual umask. Only the owner can read the
    /// file.
    ///
    /// # Errors
    /// When the file cannot be opened or created.
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
                // Log the error and retry later.
                let _ = writeln!(self.file, "putting the log {} aside: {error}", self.path.display());
                size + LOG_LIMIT
            }
        };
    }

    fn rotate(&mut self) -> io::Result<()> {
        match fs::rename(&self.path, older(&self.path)) {
            // Somebody removed the file: create a new one.
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
    /// Accepts every write, even if the file does not: a full disk must not stop a daemon.
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

/// Opens a log for appending. A new log is readable only by its owner.
///
/// # Errors
/// The system's error.
pub fn open_log(path: &Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).mode(0o600).open(path)
}

/// The path of the rotated log.
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
