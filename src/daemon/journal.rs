//! The journal: what this peer was asked to run, and how it ended.
//!
//! Each job has one small file: `journal/open/<id>` while it is open, `journal/ended/<id>` afterwards. Creating the
//! file makes an id known, and a name can be created only once. So the file system itself guarantees that no id
//! runs twice, even across crashes of the daemon.
//!
//! ```text
//!   begun ──► started ──► ended          one JSON line per step, written before the step is taken
//!     │                     ▲
//!     └── daemon died: the next daemon ends it as unknown
//!   begun ──► starting ──► started …     a queued job: before `starting` it has certainly not run, and
//!     │                                  `journal/queued` has its delivery, to begin it again
//!     └── daemon died: the next daemon withdraws it and begins it again
//!   refused, or cancelled before it arrived: ended at once, a tombstone
//! ```
//! Guarantees:
//! - A written step survives a crash of the daemon. The steps of a queued job up to its start also survive a crash
//!   of the machine; nothing else is forced to disk.
//! - A file gets its name after its first step, so a reader never finds an incomplete record.
//! - A record reserves space for its later steps at creation, so a disk that fills up cannot lose an ending.
//! - Spare records are preallocated in `journal/spare`, so commands that free space can start on a full disk.
//!
//! Limits: the journal forgets ids older than [`KEEP_FOR`] or beyond the newest [`KEEP_MOST`]. It stores no
//! environment values. It stores no output either, except the kept answers of plain requests in `journal/results`.

mod listing;
mod names;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

mod prune;
mod spares;
mod spool;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tokio::sync::watch;

pub(super) use names::NotNamed;
use peerbus_process::host::is_full;
use peerbus_process::{JobScope, ProcessKey};
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::identity::{Name, Principal, Standing};
use peerbus_protocol::{Instance, JobId, decode};
pub(super) use spares::SPARES;
pub(super) use spool::Delivered;

/// How long the journal remembers an ended job.
pub(super) const KEEP_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many ended jobs it remembers, whatever their age. A record takes at most 8 KiB of disk.
pub(super) const KEEP_MOST: usize = 100_000;

/// How long it keeps the whole answer to a plain request.
pub(super) const KEEP_RESULTS_FOR: Duration = Duration::from_secs(24 * 3600);

/// How many whole answers it keeps. Each has at most the server's `max_payload` bytes.
pub(super) const KEEP_RESULTS_MOST: usize = 256;

/// Space reserved for the steps after the first, in bytes.
const RESERVE: usize = 6 * 1024;

/// Whether the journal of a state directory has an open record of this job.
#[must_use]
pub fn is_open(state_dir: &Path, job: JobId) -> bool {
    state_dir.join("journal/open").join(job.to_string()).exists()
}

/// The journal of one state directory.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    /// Directory for new records that have no name yet.
    new: PathBuf,
    open: PathBuf,
    ended: PathBuf,
    results: PathBuf,
    queued: PathBuf,
    /// Spare records for a full disk.
    spare: PathBuf,
    /// When the journal was opened, in milliseconds since 1970.
    opened_ms: i64,
    /// Held while a job gets a unique name.
    naming: Arc<Mutex<()>>,
    /// Held while spares are made or taken.
    spares: Arc<Mutex<()>>,
    /// Whether all spares existed, as last logged.
    spares_whole: Arc<watch::Sender<bool>>,
}

/// The first step. It makes an id known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StartRecord {
    /// The job.
    pub(super) id: JobId,
    /// The instance that admitted it.
    pub(super) instance: Instance,
    /// The caller's inbox.
    pub(super) caller: String,
    /// Digest of the request. Distinguishes a repeat from another request with the same id.
    pub(super) request: String,
    /// The name that the caller gives itself; unproved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    /// The caller's proved identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) principal: Option<Name>,
    /// The role of that identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) standing: Option<Standing>,
    /// When the job began, UTC.
    pub(super) at: String,
    /// The command, shortened. May contain any character.
    pub(super) command: String,
    /// The requested working directory.
    pub(super) directory: String,
    /// The requested user.
    pub(super) user: Option<String>,
    /// Where to find its processes. `None` for a tombstone.
    pub(super) job_scope: Option<JobScope>,
    /// Whether it outlives its caller and its daemon.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) durable: bool,
    /// Whether it has a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) tty: bool,
    /// The name of a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// Whether the request waited in the queue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) queued: bool,
}

impl StartRecord {
    /// Whether it is a command that needs no other file of ours.
    fn needs_nothing_more(&self) -> bool {
        self.job_scope.is_some() && !self.durable && !self.queued
    }

    /// The caller, as far as proved.
    pub(super) fn owner(&self) -> Principal {
        match (self.principal.clone(), self.standing) {
            (Some(name), Some(standing)) => Principal::Known { name, standing },
            _ => Principal::Anyone,
        }
    }
}

/// One line of a record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
enum Step {
    Begun(Box<StartRecord>),
    Starting { at: String },
    Started { at: String, process: ProcessKey },
    Ended { at: String, result: Box<JobResult> },
}

/// What the journal knows of a job.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// The first step.
    pub(super) begun: StartRecord,
    /// Whether it was about to start. Only queued jobs record this.
    pub(super) starting: bool,
    /// The process, if its start was recorded.
    pub(super) process: Option<ProcessKey>,
    /// The result, if it was recorded.
    pub(super) result: Option<JobResult>,
    /// When the job ended.
    pub(super) ended_at: Option<String>,
}

/// An open record that can be continued.
#[derive(Debug)]
pub(super) struct Entry {
    id: JobId,
    file: File,
    journal: Arc<Journal>,
}

impl Record {
    /// A job of which only the first step is known.
    pub(super) fn of(begun: StartRecord) -> Self {
        Self { begun, starting: false, process: None, result: None, ended_at: None }
    }
}

impl Journal {
    /// Opens the journal of a state directory. Creates missing directories.
    ///
    /// # Errors
    /// Names the directory that cannot be created.
    pub(super) fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let root = state_dir.join("journal");
        let journal = Self {
            new: root.join("new"),
            open: root.join("open"),
            ended: root.join("ended"),
            results: root.join("results"),
            queued: root.join("queued"),
            spare: root.join("spare"),
            opened_ms: jiff::Timestamp::now().as_millisecond(),
            naming: Arc::default(),
            spares: Arc::default(),
            spares_whole: Arc::new(watch::Sender::new(true)),
        };
        journal.make_directories()?;
        Ok(journal)
    }

    /// Creates missing directories.
    ///
    /// # Errors
    /// Names the directory that cannot be created.
    pub(super) fn make_directories(&self) -> anyhow::Result<()> {
        use anyhow::Context;
        let Self { new, open, ended, results, queued, spare, .. } = self;
        for directory in [new, open, ended, results, queued, spare] {
            match fs::DirBuilder::new().recursive(true).mode(0o700).create(directory) {
                // Without this directory there are no spares, but a full disk must not prevent a start.
                Err(error) if directory == spare && is_full(&error) => {}
                made => {
                    made.with_context(|| format!("making the journal directory {}", directory.display()))?
                }
            }
        }
        Ok(())
    }

    /// Looks up a job.
    ///
    /// # Errors
    /// If its record exists but cannot be read.
    pub(super) fn find(&self, id: JobId) -> io::Result<Option<Record>> {
        for directory in [&self.open, &self.ended] {
            match read_record(&directory.join(id.to_string())) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => return found.map(Some),
            }
        }
        Ok(None)
    }

    /// Makes an id known. At this point the job counts as admitted.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the id is known. On any other error the journal cannot guarantee a
    /// single run, so the job must not run.
    pub(super) fn begin(&self, begun: &StartRecord) -> io::Result<Entry> {
        let name = begun.id.to_string();
        if self.ended.join(&name).exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // The file gets its name last, so nobody finds a record without its first step.
        let new = match self.draft(begun) {
            Err(full) if is_full(&full) && begun.needs_nothing_more() => {
                self.on_a_spare(begun).map_err(|_| full)?
            }
            draft => draft?,
        };
        let file = new.persist_noclobber(self.open.join(name)).map_err(|kept| kept.error)?;
        Ok(Entry { id: begun.id, file, journal: Arc::new(self.clone()) })
    }

    /// An unnamed record with its first step and reserved space.
    fn draft(&self, begun: &StartRecord) -> io::Result<NamedTempFile> {
        let mut new = NamedTempFile::new_in(&self.new)?;
        write_step(new.as_file_mut(), &Step::Begun(Box::new(begun.clone())))?;
        reserve(new.as_file_mut())?;
        Ok(new)
    }

    /// Like [`Journal::begin`] for a queued request. Keeps the delivery until the job starts. All of this survives
    /// a crash of the machine.
    ///
    /// # Errors
    /// As [`Journal::begin`].
    pub(super) fn begin_queued(&self, begun: &StartRecord, delivered: &Delivered) -> io::Result<Entry> {
        self.keep_copy(begun.id, delivered)?;
        let entry = self.begin(begun)?;
        if let Err(error) = entry.file.sync_all().and_then(|()| sync_directory(&self.open)) {
            entry.withdraw()?;
            return Err(error);
        }
        Ok(entry)
    }

    /// Writes a tombstone: the id is known and never runs.
    ///
    /// # Errors
    /// As [`Journal::begin`].
    pub(super) fn bury(&self, begun: &StartRecord, result: &JobResult) -> io::Result<()> {
        // Nobody may take this for a running job with its name.
        let _alone = begun.name.as_ref().map(|_| self.alone());
        self.begin(begun)?.ended(result)
    }

    /// The open records that a dead daemon left.
    ///
    /// # Errors
    /// If the directory cannot be read. A record that cannot be read is logged and moved aside. Its id stays known.
    pub(super) fn left_open(&self) -> io::Result<Vec<(Entry, Record)>> {
        // An unnamed file is no record.
        for unnamed in fs::read_dir(&self.new)? {
            let unnamed = unnamed?;
            // The daemon creates no directories here, and a foreign one must not prevent its start.
            if !unnamed.file_type()?.is_dir() {
                fs::remove_file(unnamed.path())?;
            }
        }
        let mut left = Vec::new();
        for entry in fs::read_dir(&self.open)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                tracing::warn!(path = %path.display(), "ignored a directory among the records of the journal");
                continue;
            }
            let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            match read_record(&path) {
                Ok(record) => left.push((self.reopen(id)?, record)),
                Err(error) => {
                    tracing::error!(record = %path.display(), %error, "a record of the journal cannot be read; its job stays known");
                    fs::rename(&path, self.ended.join(id.to_string()))?;
                }
            }
        }
        Ok(left)
    }

    /// Reopens the open record of a job. `None` if it is closed.
    ///
    /// # Errors
    /// If it exists but is unusable.
    pub(super) fn take_up(&self, id: JobId) -> io::Result<Option<Entry>> {
        match self.reopen(id) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            reopened => reopened?.continued().map(Some),
        }
    }

    fn reopen(&self, id: JobId) -> io::Result<Entry> {
        let file = OpenOptions::new().read(true).write(true).open(self.open.join(id.to_string()))?;
        Ok(Entry { id, file, journal: Arc::new(self.clone()) })
    }

    /// Keeps the whole answer to a plain request.
    ///
    /// # Errors
    /// If it cannot be written. The record has the ending in any case.
    pub(super) fn keep_result(&self, id: JobId, answer: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.results)?;
        file.write_all(answer)?;
        file.persist(self.results.join(id.to_string()))?;
        Ok(())
    }

    /// The whole answer to a plain request, if it is still kept.
    #[must_use]
    pub(super) fn kept_result(&self, id: JobId) -> Option<Vec<u8>> {
        fs::read(self.results.join(id.to_string())).ok()
    }
}

impl Entry {
    /// Records the process.
    ///
    /// # Errors
    /// If the step cannot be written.
    pub(super) fn started(&mut self, process: &ProcessKey) -> io::Result<()> {
        write_step(&mut self.file, &Step::Started { at: now(), process: process.clone() })
    }

    /// Records that a queued job is about to start, and forces this to disk.
    ///
    /// # Errors
    /// If it may not be on the disk. Then the job must not start.
    pub(super) fn starting(&mut self) -> io::Result<()> {
        write_step(&mut self.file, &Step::Starting { at: now() })?;
        self.file.sync_data()
    }

    /// Forgets a job that has certainly not started.
    ///
    /// # Errors
    /// If the record cannot be removed.
    pub(super) fn withdraw(self) -> io::Result<()> {
        fs::remove_file(self.journal.open.join(self.id.to_string()))
    }

    /// Records the ending and closes the record.
    ///
    /// # Errors
    /// If the step cannot be written or the record cannot be moved.
    pub(super) fn ended(mut self, result: &JobResult) -> io::Result<()> {
        let result = Box::new(JobResult { collected: None, ..result.clone() });
        write_step(&mut self.file, &Step::Ended { at: now(), result })?;
        self.close()
    }

    /// Closes the record after its last step.
    fn close(mut self) -> io::Result<()> {
        let length = self.file.stream_position()?;
        self.file.set_len(length)?;
        let name = self.id.to_string();
        fs::rename(self.journal.open.join(&name), self.journal.ended.join(&name))
    }

    /// Seeks to the end of the written steps, for a record of another daemon.
    fn seek_to_end(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut text)?;
        let written = text.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last + 1);
        self.file.seek(SeekFrom::Start(written as u64))?;
        self.file.write_all(b"\n")
    }

    /// Continues a record that another daemon left open.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn continued(mut self) -> io::Result<Self> {
        self.seek_to_end()?;
        Ok(self)
    }

    /// Ends a record that another daemon left open.
    ///
    /// # Errors
    /// As [`Entry::ended`].
    pub(super) fn ended_for_another(self, result: &JobResult) -> io::Result<()> {
        self.continued()?.ended(result)
    }

    /// Closes a record of a daemon that recorded the ending but did not close it.
    ///
    /// # Errors
    /// If it cannot be moved.
    pub(super) fn closed_for_another(self) -> io::Result<()> {
        self.continued()?.close()
    }
}

fn write_step(file: &mut File, step: &Step) -> io::Result<()> {
    let mut line = decode::to_json(step);
    line.push(b'\n');
    file.write_all(&line)
}

/// Allocates blocks for later steps by writing empty lines, then seeks back.
fn reserve(file: &mut File) -> io::Result<()> {
    let position = file.stream_position()?;
    file.write_all(&[b'\n'; RESERVE])?;
    file.seek(SeekFrom::Start(position)).map(drop)
}

fn read_record(path: &Path) -> io::Result<Record> {
    let broken =
        |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return Err(broken("it is a directory"));
        }
        read => read?,
    };
    let mut record: Option<Record> = None;
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        // A crash cut this line off: the step was not taken.
        let Ok(step) = decode::json::<Step>(line) else { continue };
        match (step, &mut record) {
            (Step::Begun(begun), None) => record = Some(Record::of(*begun)),
            (Step::Starting { .. }, Some(record)) => record.starting = true,
            (Step::Started { process, .. }, Some(record)) => record.process = Some(process),
            (Step::Ended { at, result }, Some(record)) => {
                record.result = Some(*result);
                record.ended_at = Some(at);
            }
            _ => return Err(broken("its steps are out of order")),
        }
    }
    record.ok_or_else(|| broken("its first step is missing"))
}

/// Makes the names in a directory survive a crash of the machine.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The current time, UTC, to the second.
#[must_use]
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;
