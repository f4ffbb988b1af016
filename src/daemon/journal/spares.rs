//! Spare records, preallocated while there was space: `journal/spare/<number>`.
//!
//! To free space on a full disk, a client runs a command, and the journal must record that command first. A spare
//! already has its blocks and its inode. It becomes a record on a disk that has no free ones, and nobody who fills
//! the disk can take it away. The daemon makes new spares once there is space.
//!
//! Limits: spares serve only commands that need no other file. A durable or queued job needs further files, so it
//! is refused on a full disk. On a copy-on-write file system such as btrfs a spare may be useless.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::PathBuf;
use std::sync::PoisonError;

use tempfile::{NamedTempFile, TempPath};

use super::{Journal, RESERVE, StartRecord, Step, write_step};
use peerbus_process::host::is_full;
use peerbus_protocol::JobId;

/// Number of spares, 8 KiB each: half a MiB, enough to inspect the disk and free space.
pub(crate) const SPARES: u32 = 64;

/// Bytes of a spare: the maximum size of a record.
const SPARE_BYTES: usize = 2 * 1024 + RESERVE;

impl Journal {
    /// Makes missing spares and returns how many there are. Stops if there is no space. Blocking.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(crate) fn restock(&self) -> io::Result<u32> {
        let _alone = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(&self.spare)?;
        for number in 0..SPARES {
            match self.make_spare(number) {
                Err(error) if is_full(&error) => break,
                made => made?,
            }
        }
        let there = self.spares_left()?;
        self.tell_of_spares(there == SPARES);
        Ok(there)
    }

    /// The number of spares.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(crate) fn spares_left(&self) -> io::Result<u32> {
        let is_spare = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|file| file.is_file());
        let count = fs::read_dir(&self.spare)?.flatten().filter(is_spare).count();
        Ok(u32::try_from(count).unwrap_or(u32::MAX).min(SPARES))
    }

    fn make_spare(&self, number: u32) -> io::Result<()> {
        let path = self.spare.join(number.to_string());
        if path.exists() {
            return Ok(());
        }
        // It gets its name after its blocks are allocated.
        let mut file = NamedTempFile::new_in(&self.new)?;
        file.write_all(&[b'\n'; SPARE_BYTES])?;
        file.persist(path)?;
        Ok(())
    }

    /// Writes the first step to a spare. The record has no name yet.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] if no spare is left.
    pub(super) fn on_a_spare(&self, begun: &StartRecord) -> io::Result<NamedTempFile> {
        let mut file = self.take_spare(begun.id)?;
        write_step(file.as_file_mut(), &Step::Begun(Box::new(begun.clone())))?;
        if file.as_file_mut().stream_position()? > SPARE_BYTES as u64 - RESERVE as u64 {
            // Its later steps might not fit.
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.tell_of_spares(false);
        Ok(file)
    }

    fn take_spare(&self, id: JobId) -> io::Result<NamedTempFile> {
        let _alone = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in fs::read_dir(&self.spare)? {
            let spare = entry?.path();
            let ours: PathBuf = self.new.join(format!("spare-{id}"));
            if !spare.is_file() || fs::rename(&spare, &ours).is_err() {
                continue;
            }
            let file: File = OpenOptions::new().read(true).write(true).open(&ours)?;
            return Ok(NamedTempFile::from_parts(file, TempPath::try_from_path(ours)?));
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Waits until spares are missing.
    pub(crate) async fn spares_are_missing(&self) {
        // The sender lives as long as `self`.
        let _ = self.spares_whole.subscribe().wait_for(|whole| !whole).await;
    }

    /// Logs once when the disk is full, and once when it no longer is.
    fn tell_of_spares(&self, whole: bool) {
        let was_whole = self.spares_whole.send_replace(whole);
        if was_whole && !whole {
            let journal = self.spare.display();
            tracing::error!(%journal, "the disk is full: commands are written down in the journal's reserve, and are refused once it is used up");
        } else if whole && !was_whole {
            tracing::info!("the journal's reserve for a full disk is whole again");
        }
    }
}
