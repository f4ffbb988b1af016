//! Records that were made while there was room: `journal/spare/<number>`.
//!
//! The idea: whoever has to make room on a full disk does that with a command, which has to be written down first.
//! A spare is a file that has all its blocks and its inode already, so it can become a record of a disk that has
//! neither, and nobody who fills that disk can take it away. They are made again once there is room.
//!
//! Limit: they are for commands that need nothing more of the disk. A durable one, or one that has waited, needs
//! other files beside its record, and is refused as without them. Where the file system writes over nothing in
//! place, as btrfs does, a spare may be of no use.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::PathBuf;
use std::sync::PoisonError;

use tempfile::{NamedTempFile, TempPath};

use super::{Journal, RESERVE, StartRecord, Step, write_step};
use peerbus_process::host::is_full;
use peerbus_protocol::JobId;

/// How many there are, 8 KiB each: enough to look around and to make room, and half a MiB at most.
pub(crate) const SPARES: u32 = 64;

/// Bytes of a spare: as much as a record ever takes.
const SPARE_BYTES: usize = 2 * 1024 + RESERVE;

impl Journal {
    /// Makes what is missing of the spares; says how many there are. Stops where there is no room. Blocking.
    ///
    /// # Errors
    /// When they cannot be looked at.
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

    /// How many spares there are.
    ///
    /// # Errors
    /// When they cannot be looked at.
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
        // It has its name when it has its blocks.
        let mut file = NamedTempFile::new_in(&self.new)?;
        file.write_all(&[b'\n'; SPARE_BYTES])?;
        file.persist(path)?;
        Ok(())
    }

    /// A record with its first step, on a spare, still without its name.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when there is no spare left.
    pub(super) fn on_a_spare(&self, begun: &StartRecord) -> io::Result<NamedTempFile> {
        let mut file = self.take_spare(begun.id)?;
        write_step(file.as_file_mut(), &Step::Begun(Box::new(begun.clone())))?;
        if file.as_file_mut().stream_position()? > SPARE_BYTES as u64 - RESERVE as u64 {
            // Its later steps may not fit.
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

    /// Waits until some are missing.
    pub(crate) async fn spares_are_missing(&self) {
        // The sender is as old as this.
        let _ = self.spares_whole.subscribe().wait_for(|whole| !whole).await;
    }

    /// Says once that the disk is full, and once that it is no more.
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
