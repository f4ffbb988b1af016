//! `--report FILE`: how it ended, for machines. Exit codes can be a command's own; this cannot.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::exit::{BUS_UNREACHABLE, Failure, NOT_FOUND, OFFLINE};
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
    path: Option<PathBuf>,
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
    /// The exit code of `d`.
    exit_code: u8,
    /// What is wrong with the output, if anything is.
    output_lost: Option<String>,
    /// All the peer said of the end.
    result: Option<JobResult>,
}

impl Report {
    pub(super) fn new(path: Option<PathBuf>, asked: &str, id: JobId) -> Self {
        let (peer, ending, output_lost, result) = (None, None, None, None);
        Self {
            path,
            kind: TYPE,
            id,
            asked: asked.to_owned(),
            peer,
            ending,
            exit_code: 0,
            output_lost,
            result,
        }
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

    pub(super) fn not_started(&mut self, why: StartFailure, message: &str) {
        self.ending = Some(Ending::NotStarted { why, message: message.to_owned() });
    }

    /// A failure before anything was sent, or because nobody was there.
    pub(super) fn failed(&mut self, failure: &Failure) {
        match failure.code {
            OFFLINE => self.ending = Some(Ending::Offline {}),
            NOT_FOUND => self.not_started(StartFailure::NoSuchPeer, &failure.message),
            BUS_UNREACHABLE => self.not_started(StartFailure::BusUnreachable, &failure.message),
            _ => self.not_started(StartFailure::System, &failure.message),
        }
    }

    /// Writes the file, where one is wanted, whole or not at all.
    pub(super) fn write(&mut self, exit_code: u8) -> Result<(), Failure> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        self.exit_code = exit_code;
        let write = || -> std::io::Result<()> {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let mut file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
            serde_json::to_writer(&mut file, self)?;
            file.write_all(b"\n")?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|error| {
            Failure::other(format!(
                "writing the report {}: {error}; the command itself: code {exit_code}",
                path.display()
            ))
        })
    }
}
