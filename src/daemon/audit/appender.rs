//! Appends lines and handles write errors.
//!
//! Lines that could not be written are counted and reported in the daemon's log. As soon as the audit log is
//! writable again, one line in it reports them.

use std::io;
use std::path::PathBuf;

use super::log::Log;
use peerbus_protocol::audit::{AuditEvent, Checkpoint};
use peerbus_protocol::{Instance, PeerId};

/// The location and owner of a log.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) state_dir: PathBuf,
    pub(crate) peer: PeerId,
    /// Maximum bytes of all files.
    pub(crate) size: u64,
    /// The instance that started. `None` for a process that only ends jobs of a dead daemon.
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

/// Appends lines to a log.
#[derive(Debug)]
pub(super) struct Appender {
    place: Place,
    log: Option<Log>,
    lost: Option<LostLines>,
    /// Whether the log is unwritable and this was logged.
    in_trouble: bool,
    head_is_old: bool,
}

impl Appender {
    pub(super) fn new(place: Place) -> Self {
        Self { place, log: None, lost: None, in_trouble: false, head_is_old: false }
    }

    /// The head of the log, if it is writable.
    pub(super) fn head(&self) -> Option<Checkpoint> {
        self.log.as_ref().map(|log| log.last().clone())
    }

    /// Whether to retry even without a line to write.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.in_trouble
    }

    /// Opens the log if necessary, and records lost lines.
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
    /// If the line is not in the log. It is counted as lost then.
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

    /// Writes the head after a batch.
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
