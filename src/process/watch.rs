//! Reports changes in a directory.
//!
//! Does not report what has changed: the caller checks again. Misses nothing after the watch was created.

#![expect(unsafe_code, reason = "a descriptor is registered with the runtime")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Room for many events at once; their content is ignored.
const EVENTS_BYTES: usize = 16 * 1024;

/// Watches one directory, without its subdirectories.
#[derive(Debug)]
pub struct DirectoryWatch(AsyncFd<File>);

impl DirectoryWatch {
    /// Starts to watch.
    ///
    /// # Errors
    /// When the directory does not exist, or the system allows no more watches.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let changes = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF;
        inotify.add_watch(directory, changes)?;
        let descriptor = OwnedFd::from(inotify);
        // SAFETY: the file keeps its one descriptor, and keeps it open, for as long as it lives.
        Ok(Self(unsafe { AsyncFd::register_with_interest(File::from(descriptor), Interest::READABLE) }?))
    }

    /// Waits for a change since the last reported one. Cancel safe.
    ///
    /// # Errors
    /// The system's error.
    pub async fn changed(&self) -> io::Result<()> {
        let mut events = [0; EVENTS_BYTES];
        let read = self.0.async_io(Interest::READABLE, |mut file| file.read(&mut events)).await?;
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
