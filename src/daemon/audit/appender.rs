//! Writing lines down, and what is done while that cannot be done.
//!
//! What could not be written is counted, said in the daemon's log, and told in the audit log itself
//! by one line as soon as it can be written again.

use std::io;
use std::path::PathBuf;

use super::log::Log;
use peerbus_protocol::audit::{AuditEvent, Checkpoint};
use peerbus_protocol::{Instance, PeerId};

/// What a log is, and whose.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) state_dir: PathBuf,
    pub(crate) peer: PeerId,
    /// Bytes of all its files.
    pub(crate) size: u64,
    /// The daemon that has been started; none for who only ends what another has left.
    pub(crate) instance: Option<Instance>,
}

/// Lines that could not be written.
#[derive(Debug, Clone)]
struct LostLines {
    count: u64,
    first: String,
    last: String,
    why: String,
}

/// Who writes.
#[derive(Debug)]
pub(super) struct Appender {
    place: Place,
    log: Option<Log>,
    lost: Option<LostLines>,
    /// Whether it cannot be written, and that was said.
    in_trouble: bool,
    head_is_old: bool,
}

impl Appender {
    pub(super) fn new(place: Place) -> Self {
        Self { place, log: None, lost: None, in_trouble: false, head_is_old: false }
    }

    /// How far the log goes, where it can be written.
    pub(super) fn head(&self) -> Option<Checkpoint> {
        self.log.as_ref().map(|log| log.last().clone())
    }

    /// Whether it is worth trying again without a line to write.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.in_trouble
    }

    /// Opens the log, where that was not done, and tells what was lost.
    pub(super) fn prepare(&mut self) {
        if let Err(error) = self.ready() {
            self.complain(&error);
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if !self.in_trouble {
            tracing::error!(%error, "the audit log cannot be written");
        }
        self.in_trouble = true;
    }

    fn ready(&mut self) -> io::Result<&mut Log> {
        let log = match self.log.take() {
            Some(log) => log,
            None => self.open()?,
        };
        let log = self.log.insert(log);
        if let Some(LostLines { count, first, last, why }) = self.lost.clone() {
            log.append(&AuditEvent::Gap { lost: count, first, last, why })?;
            self.lost = None;
            tracing::warn!(
                lost = count,
                "the audit log can be written again, and tells of the lines that are not in it"
            );
        }
        self.in_trouble = false;
        Ok(log)
    }

    fn open(&self) -> io::Result<Log> {
        let mut log = Log::open(&self.place.state_dir, &self.place.peer, self.place.size)?;
        if let Some(instance) = self.place.instance {
            let (version, user) =
                (peerbus_protocol::VERSION.to_owned(), peerbus_process::host::current_user());
            log.append(&AuditEvent::Started { instance, version, user })?;
        }
        Ok(log)
    }

    /// Writes one line.
    ///
    /// # Errors
    /// When it is not in the log; it is counted then.
    pub(super) fn write(&mut self, event: &AuditEvent) -> io::Result<()> {
        let written = self.ready().and_then(|log| log.append(event));
        if let Err(error) = &written {
            self.count_lost(error);
        }
        written
    }

    fn count_lost(&mut self, error: &io::Error) {
        self.complain(error);
        let at = super::now();
        match &mut self.lost {
            Some(lost) => {
                lost.count += 1;
                lost.last = at;
            }
            None => {
                self.lost = Some(LostLines { count: 1, first: at.clone(), last: at, why: error.to_string() });
            }
        }
    }

    /// What was written is all there is for now.
    pub(super) fn settle(&mut self) {
        let Some(log) = &self.log else { return };
        let settled = log.settle();
        if let Err(error) = &settled
            && !self.head_is_old
        {
            tracing::error!(%error, "how far the audit log goes cannot be written down beside it");
        }
        self.head_is_old = settled.is_err();
    }
}
