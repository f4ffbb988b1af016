//! `--report FILE`: a machine-readable result. An exit code may be the command's own; the report is
//! unambiguous.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::{Streams, Written};
use crate::exit::{BUS_UNREACHABLE, CANCELLED, CliError, NOT_FOUND, OFFLINE};
use crate::named_file::NamedFile;
use peerbus_client::exec::{Completion, Integrity};
use peerbus_protocol::ending::StartFailure;
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::{Ending, JobId, PeerId};

/// The `type` of a report.
const TYPE: &str = "peerbus.report.v1";

/// The result of one command.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(skip)]
    file: Option<(PathBuf, NamedFile)>,
    #[serde(rename = "type")]
    kind: &'static str,
    /// The job.
    id: JobId,
    /// The peer's name on the command line.
    asked: String,
    /// The peer, if it was found.
    #[serde(rename = "peer_id")]
    peer: Option<PeerId>,
    /// The command's end.
    ending: Option<Ending>,
    /// The combined offset at which `d` detached from a running command.
    #[serde(skip_serializing_if = "Option::is_none")]
    detached_at: Option<u64>,
    /// The exit code of `d`.
    exit_code: u8,
    /// The reason for incomplete output, if any.
    output_lost: Option<String>,
    /// The error of an output of `d`, unless it was closed.
    output_failed: Option<String>,
    /// The error that ended the standard input of `d` early.
    input_lost: Option<String>,
    /// The peer's full result: see [`shown`].
    result: Option<Value>,
}

/// A result with the keys of the public JSON: a peer is `peer_id`.
pub(crate) fn shown(result: &JobResult) -> Value {
    let mut shown = serde_json::json!(result);
    if let Value::Object(fields) = &mut shown
        && let Some(peer) = fields.remove("peer")
    {
        fields.insert("peer_id".to_owned(), peer);
    }
    shown
}

impl Report {
    /// Starts a report. Fails before the command runs if the file cannot be written.
    pub(super) fn begin(path: Option<PathBuf>, asked: &str, id: JobId) -> Result<Self, CliError> {
        let open = |path: PathBuf| match NamedFile::open(&path) {
            Ok(file) => Ok((path, file)),
            Err(error) => Err(CliError::usage(format!("--report {}: {error}", path.display()))),
        };
        let file = path.map(open).transpose()?;
        let (peer, ending, result) = (None, None, None);
        Ok(Self {
            file,
            kind: TYPE,
            id,
            asked: asked.to_owned(),
            peer,
            ending,
            detached_at: None,
            exit_code: 0,
            output_lost: None,
            output_failed: None,
            input_lost: None,
            result,
        })
    }

    pub(super) fn peer(&mut self, peer: &PeerId) {
        self.peer = Some(peer.clone());
    }

    pub(super) fn outcome(&mut self, outcome: &Completion) {
        self.ending = Some(outcome.ending.clone());
        self.result = outcome.result.as_ref().map(shown);
        self.output_lost = outcome.result.as_ref().and_then(|result| result.output_cut.clone());
        if let Integrity::Damaged(what) = &outcome.integrity {
            self.output_lost = Some(what.clone());
        }
    }

    pub(super) fn streams(&mut self, streams: &Streams) {
        self.input_lost.clone_from(&streams.input_lost);
        if let Written::Failed(why) = &streams.output {
            self.output_failed = Some(why.clone());
        }
    }

    pub(super) fn detached(&mut self, at: u64) {
        self.detached_at = Some(at);
    }

    fn not_started(&mut self, why: StartFailure, message: &str) {
        self.ending = Some(Ending::NotStarted { why, message: message.to_owned() });
    }

    /// Records a failure before anything was sent, or without an answer.
    pub(super) fn failed(&mut self, failure: &CliError) {
        match failure.code {
            OFFLINE => self.ending = Some(Ending::Offline {}),
            NOT_FOUND => self.not_started(StartFailure::NoSuchPeer, &failure.message),
            BUS_UNREACHABLE => self.not_started(StartFailure::BusUnreachable, &failure.message),
            CANCELLED => self.ending = Some(Ending::Cancelled { why: failure.message.clone() }),
            _ => self.not_started(StartFailure::System, &failure.message),
        }
    }

    /// Writes the file, if one was requested.
    pub(super) fn write(&mut self, exit_code: u8) -> Result<(), CliError> {
        let Some((path, file)) = self.file.take() else { return Ok(()) };
        self.exit_code = exit_code;
        let text = serde_json::to_string(self).map_err(std::io::Error::from);
        text.and_then(|text| file.write(format!("{text}\n").as_bytes(), None)).map_err(|error| {
            let path = path.display();
            CliError::other(format!(
                "writing the report {path}: {error}; the command itself: code {exit_code}"
            ))
        })
    }
}
