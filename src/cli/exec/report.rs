//! `--report FILE`: how it ended, for machines. Exit codes can be a command's own; this cannot.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::exit::{BUS_UNREACHABLE, CANCELLED, Failure, NOT_FOUND, OFFLINE};
use crate::client::exec::{Integrity, Outcome};
use crate::protocol::ending::StartFailure;
use crate::protocol::exec::JobResult;
use crate::protocol::{Ending, JobId, PeerId};

/// The `type` of a report.
const TYPE: &str = "peerbus.report.v1";

/// How one command ended.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(skip)]
    file: Option<Destination>,
    #[serde(rename = "type")]
    kind: &'static str,
    /// The job.
    id: JobId,
    /// What the peer was called on the command line.
    asked: String,
    /// The peer, where one was found.
    peer: Option<PeerId>,
    /// How it ended.
    ending: Option<Ending>,
    /// Where the output was left, for a command that goes on: a combined offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    detached_at: Option<u64>,
    /// The exit code of `d`.
    exit_code: u8,
    /// What is wrong with the output, if anything is.
    output_lost: Option<String>,
    /// All the peer said of the end.
    result: Option<JobResult>,
}

/// Where a report is to go, and the file it is written to until it is whole.
#[derive(Debug)]
struct Destination {
    path: PathBuf,
    draft: tempfile::NamedTempFile,
}

impl Report {
    /// Begins a report. Whether it can be written is found out before anything runs.
    pub(super) fn begin(path: Option<PathBuf>, asked: &str, id: JobId) -> Result<Self, Failure> {
        let file = path.map(Destination::open).transpose()?;
        let (peer, ending, output_lost, result) = (None, None, None, None);
        Ok(Self {
            file,
            kind: TYPE,
            id,
            asked: asked.to_owned(),
            peer,
            ending,
            detached_at: None,
            exit_code: 0,
            output_lost,
            result,
        })
    }

    pub(super) fn peer(&mut self, peer: &PeerId) {
        self.peer = Some(peer.clone());
    }

    pub(super) fn outcome(&mut self, outcome: &Outcome) {
        self.ending = Some(outcome.ending.clone());
        self.result.clone_from(&outcome.result);
        if let Integrity::Damaged(what) = &outcome.integrity {
            self.output_lost = Some(what.clone());
        }
    }

    pub(super) fn detached(&mut self, at: u64) {
        self.detached_at = Some(at);
    }

    fn not_started(&mut self, why: StartFailure, message: &str) {
        self.ending = Some(Ending::NotStarted { why, message: message.to_owned() });
    }

    /// A failure before anything was sent, or because nobody was there.
    pub(super) fn failed(&mut self, failure: &Failure) {
        match failure.code {
            OFFLINE => self.ending = Some(Ending::Offline {}),
            NOT_FOUND => self.not_started(StartFailure::NoSuchPeer, &failure.message),
            BUS_UNREACHABLE => self.not_started(StartFailure::BusUnreachable, &failure.message),
            CANCELLED => self.ending = Some(Ending::Cancelled { why: failure.message.clone() }),
            _ => self.not_started(StartFailure::System, &failure.message),
        }
    }

    /// Writes the file, where one is wanted, whole or not at all.
    pub(super) fn write(&mut self, exit_code: u8) -> Result<(), Failure> {
        let Some(Destination { path, mut draft }) = self.file.take() else { return Ok(()) };
        self.exit_code = exit_code;
        let write = || -> std::io::Result<()> {
            serde_json::to_writer(&mut draft, self)?;
            draft.write_all(b"\n")?;
            draft.persist(&path)?;
            Ok(())
        };
        write().map_err(|error| {
            let path = path.display();
            Failure::other(format!(
                "writing the report {path}: {error}; the command itself: code {exit_code}"
            ))
        })
    }
}

impl Destination {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::usage(format!("--report {}: {why}", path.display()));
        if path.is_dir() {
            return Err(wrong("it is a directory".to_owned()));
        }
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let draft = tempfile::NamedTempFile::new_in(directory).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { draft, path })
    }
}
