//! The journal: what this peer was asked to run, and what became of it.
//!
//! The idea: one small file a job, `journal/open/<id>` while it is open and `journal/ended/<id>`
//! afterwards. Naming the file is what makes an id known, and it can be named only once; so the file
//! system itself keeps the promise that no id runs twice, across crashes of the daemon too.
//!
//! ```text
//!   begun ──► started ──► ended          one JSON line a step, written before the step is taken
//!     │                     ▲
//!     └── daemon died: ended as unknown by the next daemon
//!   begun ──► starting ──► started …     one from the queue: until `starting` it surely has not run,
//!     │                                  and what was delivered is in `journal/queued` to be begun again
//!     └── daemon died: forgotten by the next daemon, which begins it
//!   refused, or cancelled before it came: ended at once, a tombstone
//! ```
//! Guarantees: a step that was written survives the daemon's crash; those of a job from the queue until
//! its start the machine's, too (nothing else is forced to disk). A file has its first step before it has
//! its name, so that whoever looks can always read it. It reserves room for its later steps when it is made,
//! so that a disk that fills up in between cannot lose an ending; and for those who want to make room on it some
//! records were made beforehand (`journal/spare`). Limits: ids older than [`KEEP_FOR`] or beyond the
//! newest [`KEEP_MOST`] are forgotten. No environment values and no output are written here, but
//! the kept answers of plain requests in `journal/results`.

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

/// How long an ended job is remembered.
pub(super) const KEEP_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many ended jobs are remembered, whatever their age. A record takes 8 KiB of disk at most.
pub(super) const KEEP_MOST: usize = 100_000;

/// How long the whole answer to a plain request is kept.
pub(super) const KEEP_RESULTS_FOR: Duration = Duration::from_secs(24 * 3600);

/// How many whole answers are kept; each has at most the server's `max_payload` bytes.
pub(super) const KEEP_RESULTS_MOST: usize = 256;

/// Room reserved for the steps after the first, in bytes.
const RESERVE: usize = 6 * 1024;

/// Whether a job runs, by the journal of a state directory.
#[must_use]
pub fn is_open(state_dir: &Path, job: JobId) -> bool {
    state_dir.join("journal/open").join(job.to_string()).exists()
}

/// The journal of one state directory.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    /// Where records are made.
    new: PathBuf,
    open: PathBuf,
    ended: PathBuf,
    results: PathBuf,
    queued: PathBuf,
    /// Records for a full disk.
    spare: PathBuf,
    /// When it was opened, in milliseconds since 1970.
    opened_ms: i64,
    /// Held while a job is given a name that no other may have.
    naming: Arc<Mutex<()>>,
    /// Held while spares are made or taken.
    spares: Arc<Mutex<()>>,
    /// Whether there were as many spares as there should be, as far as was said.
    spares_whole: Arc<watch::Sender<bool>>,
}

/// The first step: an id becomes known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StartRecord {
    /// The job.
    pub(super) id: JobId,
    /// The instance that took it.
    pub(super) instance: Instance,
    /// The inbox of who asked.
    pub(super) caller: String,
    /// Digest of the request, to tell a repeat from another request under the same id.
    pub(super) request: String,
    /// Who asked, by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    /// Who asked, as far as it was proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) principal: Option<Name>,
    /// What that identity is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) standing: Option<Standing>,
    /// When, UTC.
    pub(super) at: String,
    /// What to run, shortened. May hold any character.
    pub(super) command: String,
    /// Where, as asked.
    pub(super) directory: String,
    /// As whom, as asked.
    pub(super) user: Option<String>,
    /// Where its processes are to be found; none for a tombstone.
    pub(super) job_scope: Option<JobScope>,
    /// Whether it goes on without its caller and its daemon.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) durable: bool,
    /// Whether it has a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) tty: bool,
    /// A session's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// Whether it has waited in the queue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) queued: bool,
}

impl StartRecord {
    /// Whether it is a command that runs without another file of ours.
    fn needs_nothing_more(&self) -> bool {
        self.job_scope.is_some() && !self.durable && !self.queued
    }

    /// Who asked, as far as it was proved.
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
    /// Whether it was about to be started. Only one from the queue writes that down.
    pub(super) starting: bool,
    /// The process, where its start was written down.
    pub(super) process: Option<ProcessKey>,
    /// The ending, where it was written down.
    pub(super) result: Option<JobResult>,
    /// When that was.
    pub(super) ended_at: Option<String>,
}

/// An open record, to be continued.
#[derive(Debug)]
pub(super) struct Entry {
    id: JobId,
    file: File,
    journal: Arc<Journal>,
}

impl Record {
    /// Of a job of which no more is known than that it was taken.
    pub(super) fn of(begun: StartRecord) -> Self {
        Self { begun, starting: false, process: None, result: None, ended_at: None }
    }
}

impl Journal {
    /// Opens the journal below a state directory, making what is missing.
    ///
    /// # Errors
    /// Names the directory that cannot be made.
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

    /// Makes the directories that are missing.
    ///
    /// # Errors
    /// Names the one that cannot be made.
    pub(super) fn make_directories(&self) -> anyhow::Result<()> {
        use anyhow::Context;
        let Self { new, open, ended, results, queued, spare, .. } = self;
        for directory in [new, open, ended, results, queued, spare] {
            match fs::DirBuilder::new().recursive(true).mode(0o700).create(directory) {
                // Without it there is no reserve; a full disk is no reason not to start.
                Err(error) if directory == spare && is_full(&error) => {}
                made => {
                    made.with_context(|| format!("making the journal directory {}", directory.display()))?
                }
            }
        }
        Ok(())
    }

    /// What is known of a job.
    ///
    /// # Errors
    /// When its record exists and cannot be read.
    pub(super) fn find(&self, id: JobId) -> io::Result<Option<Record>> {
        for directory in [&self.open, &self.ended] {
            match read_record(&directory.join(id.to_string())) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => return found.map(Some),
            }
        }
        Ok(None)
    }

    /// Makes an id known. The one moment at which a job is taken.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when it is known already; anything else means that the
    /// promise to run once cannot be kept, so the job must not run.
    pub(super) fn begin(&self, begun: &StartRecord) -> io::Result<Entry> {
        let name = begun.id.to_string();
        if self.ended.join(&name).exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // It gets its name when it can be read: nobody ever finds one without its first step.
        let new = match self.draft(begun) {
            Err(full) if is_full(&full) && begun.needs_nothing_more() => {
                self.on_a_spare(begun).map_err(|_| full)?
            }
            draft => draft?,
        };
        let file = new.persist_noclobber(self.open.join(name)).map_err(|kept| kept.error)?;
        Ok(Entry { id: begun.id, file, journal: Arc::new(self.clone()) })
    }

    /// A record with its first step, and room for those to come.
    fn draft(&self, begun: &StartRecord) -> io::Result<NamedTempFile> {
        let mut new = NamedTempFile::new_in(&self.new)?;
        write_step(new.as_file_mut(), &Step::Begun(Box::new(begun.clone())))?;
        reserve(new.as_file_mut())?;
        Ok(new)
    }

    /// The same for a request that waited in the queue: what was delivered is kept until it starts, and
    /// nothing of it is lost when the machine stops.
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

    /// Makes an id known that is never to run.
    ///
    /// # Errors
    /// As [`Journal::begin`].
    pub(super) fn bury(&self, begun: &StartRecord, result: &JobResult) -> io::Result<()> {
        // Nobody is to take it for one that runs under its name.
        let _alone = begun.name.as_ref().map(|_| self.alone());
        self.begin(begun)?.ended(result)
    }

    /// The records no daemon has ended: what a daemon that died left behind.
    ///
    /// # Errors
    /// When the directory cannot be read. A record that cannot be read is named in the log, moved
    /// aside, and stays known.
    pub(super) fn left_open(&self) -> io::Result<Vec<(Entry, Record)>> {
        // What came to no name is no record.
        for unnamed in fs::read_dir(&self.new)? {
            let unnamed = unnamed?;
            // Nothing of ours is a directory: whoever made one is not to keep a daemon from starting.
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

    /// The open record of a job, to be continued; none where it is closed.
    ///
    /// # Errors
    /// When it is there and cannot be used.
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
    /// When it cannot be written; the ending itself is in the record.
    pub(super) fn keep_result(&self, id: JobId, answer: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.results)?;
        file.write_all(answer)?;
        file.persist(self.results.join(id.to_string()))?;
        Ok(())
    }

    /// The whole answer to a plain request, where it is still kept.
    #[must_use]
    pub(super) fn kept_result(&self, id: JobId) -> Option<Vec<u8>> {
        fs::read(self.results.join(id.to_string())).ok()
    }
}

impl Entry {
    /// Writes down the process.
    ///
    /// # Errors
    /// When the step cannot be written.
    pub(super) fn started(&mut self, process: &ProcessKey) -> io::Result<()> {
        write_step(&mut self.file, &Step::Started { at: now(), process: process.clone() })
    }

    /// Writes down that a job from the queue is about to start, so that it is on the disk.
    ///
    /// # Errors
    /// When that is not sure: then it must not start.
    pub(super) fn starting(&mut self) -> io::Result<()> {
        write_step(&mut self.file, &Step::Starting { at: now() })?;
        self.file.sync_data()
    }

    /// Forgets a job that surely has not started.
    ///
    /// # Errors
    /// When the record cannot be removed.
    pub(super) fn withdraw(self) -> io::Result<()> {
        fs::remove_file(self.journal.open.join(self.id.to_string()))
    }

    /// Writes down the ending and closes the record.
    ///
    /// # Errors
    /// When the step cannot be written, or the record cannot be moved.
    pub(super) fn ended(mut self, result: &JobResult) -> io::Result<()> {
        let result = Box::new(JobResult { collected: None, ..result.clone() });
        write_step(&mut self.file, &Step::Ended { at: now(), result })?;
        self.close()
    }

    /// Closes the record, behind its last step.
    fn close(mut self) -> io::Result<()> {
        let length = self.file.stream_position()?;
        self.file.set_len(length)?;
        let name = self.id.to_string();
        fs::rename(self.journal.open.join(&name), self.journal.ended.join(&name))
    }

    /// Moves to the end of what is written, for a record of another daemon.
    fn seek_to_end(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut text)?;
        let written = text.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last + 1);
        self.file.seek(SeekFrom::Start(written as u64))?;
        self.file.write_all(b"\n")
    }

    /// Goes on with a record another daemon left open.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn continued(mut self) -> io::Result<Self> {
        self.seek_to_end()?;
        Ok(self)
    }

    /// Ends a record another daemon left open.
    ///
    /// # Errors
    /// As [`Entry::ended`].
    pub(super) fn ended_for_another(self, result: &JobResult) -> io::Result<()> {
        self.continued()?.ended(result)
    }

    /// Closes a record of another daemon, which wrote down the ending and came no further.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub(super) fn closed_for_another(self) -> io::Result<()> {
        self.continued()?.close()
    }
}

fn write_step(file: &mut File, step: &Step) -> io::Result<()> {
    let mut line = decode::to_json(step);
    line.push(b'\n');
    file.write_all(&line)
}

/// Fills the room of later steps with empty lines and goes back, so that they need no new blocks.
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
        // A line that was cut off by a crash: what it wanted to say did not happen.
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

/// Has the names in a directory survive the machine's stop.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Now, in UTC, to the second.
#[must_use]
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;
