//! Another name for a job that runs: its record is written anew, with all its steps and the room for those to come,
//! and takes the place of the old one at once.

use std::fs;
use std::io::{self, Write};
use std::sync::PoisonError;

use super::{Entry, Journal, Step, decode, reserve, sync_directory, write_step};
use crate::protocol::JobId;

/// Why a job keeps its name.
#[derive(Debug)]
pub(in crate::daemon) enum NotRenamed {
    /// That one has not ended, and has the name.
    Taken(JobId),
    /// The journal cannot be read or written.
    Io(io::Error),
}

impl From<io::Error> for NotRenamed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Entry {
    /// Gives the job a name that no other job has which has not ended. Blocking.
    ///
    /// # Errors
    /// Then it is called as before.
    pub(in crate::daemon) fn rename(&mut self, name: &str) -> Result<(), NotRenamed> {
        let journal = self.journal.clone();
        let _alone = journal.naming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = journal.named(name, self.id)? {
            return Err(NotRenamed::Taken(other));
        }
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
        // What takes the place of a record must not be less than that was, also when the machine stops.
        draft.as_file().sync_all()?;
        self.file = draft.persist(&path).map_err(|error| error.error)?;
        sync_directory(&journal.open)?;
        Ok(())
    }
}

impl Journal {
    /// The job of this name that has not ended, if there is one besides `except`.
    fn named(&self, name: &str, except: JobId) -> io::Result<Option<JobId>> {
        for id in self.open_ids()?.into_iter().filter(|id| *id != except) {
            match self.find(id) {
                Ok(Some(record)) if record.result.is_none() && record.begun.name.as_deref() == Some(name) => {
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
