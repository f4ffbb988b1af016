//! Job names. Two open jobs of one owner never share a name. If members have no identities, all jobs belong to one
//! owner.
//!
//! Renaming a running job writes a new record with all steps and reserved space, and atomically replaces the old
//! one.

use std::fs;
use std::io::{self, Write};
use std::sync::{MutexGuard, PoisonError};

use thiserror::Error;

use super::{Entry, Journal, StartRecord, Step, decode, reserve, sync_directory, write_step};
use peerbus_protocol::JobId;
use peerbus_protocol::identity::Name;

/// Why a job cannot have a name.
#[derive(Debug, Error)]
pub(crate) enum NotNamed {
    /// Another job of the same owner has the name.
    #[error("the name {name} is taken: it is that of {by}, which has not ended")]
    Taken { name: String, by: JobId },
    /// The journal cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Entry {
    /// Gives the job a name that no other open job of its owner has. Blocking.
    ///
    /// # Errors
    /// If there is an error, the job keeps its old name.
    pub(crate) fn rename(&mut self, name: &str) -> Result<(), NotNamed> {
        let journal = self.journal.clone();
        let record = journal.find(self.id)?;
        let owner = record.and_then(|record| record.begun.principal);
        let _claimed = journal.claim(name, owner.as_ref(), self.id)?;
        let path = journal.open.join(self.id.to_string());
        let text = fs::read(&path)?;
        let mut draft = tempfile::NamedTempFile::new_in(&journal.results)?;
        let mut is_first = true;
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match decode::json(line) {
                Ok(Step::Begun(mut begun)) if is_first => {
                    begun.name = Some(name.to_owned());
                    write_step(draft.as_file_mut(), &Step::Begun(begun))?;
                }
                _ => draft.as_file_mut().write_all(&[line, b"\n"].concat())?,
            }
            is_first = false;
        }
        reserve(draft.as_file_mut())?;
        // The replacement must be complete even after a crash of the machine.
        draft.as_file().sync_all()?;
        self.file = draft.persist(&path).map_err(|error| error.error)?;
        sync_directory(&journal.open)?;
        Ok(())
    }
}

impl Journal {
    /// Begins a job, unless another open job of its owner has its name. Blocking.
    ///
    /// # Errors
    /// If there is an error, the job must not run.
    pub(crate) fn begin_as(
        &self,
        begun: &StartRecord,
        begin: impl FnOnce() -> io::Result<Entry>,
    ) -> Result<Entry, NotNamed> {
        let _claimed = {
            let claim = |name: &String| self.claim(name, begun.principal.as_ref(), begun.id);
            begun.name.as_ref().map(claim).transpose()?
        };
        Ok(begin()?)
    }

    /// Reserves a name of this owner for a job. The guard holds the reservation.
    fn claim(&self, name: &str, owner: Option<&Name>, of: JobId) -> Result<MutexGuard<'_, ()>, NotNamed> {
        let claimed = self.alone();
        match self.named(name, owner, of)? {
            Some(by) => Err(NotNamed::Taken { name: name.to_owned(), by }),
            None => Ok(claimed),
        }
    }

    /// Prevents other naming until the guard is dropped.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.naming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job of this owner and name that has not ended, if there is one besides `except`.
    fn named(&self, name: &str, owner: Option<&Name>, except: JobId) -> io::Result<Option<JobId>> {
        for id in self.open_ids()?.into_iter().filter(|id| *id != except) {
            match self.find(id) {
                Ok(Some(record))
                    if record.result.is_none()
                        && record.begun.name.as_deref() == Some(name)
                        && record.begun.principal.as_ref() == owner =>
                {
                    return Ok(Some(id));
                }
                Ok(_) => {}
                // It says no name.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
