//! What a job reports to all its viewers: the length of its log, and its result.

use std::sync::Arc;

use peerbus_protocol::attach::{self, Responder, SizeFrom};
use peerbus_protocol::exec::{JobResult, OutputHolder};
use peerbus_protocol::send_buffer::StreamOffsets;
use peerbus_shim::messages::ResponderFrom;

/// The progress of a job.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    /// Bytes the command has written so far.
    pub(super) totals: StreamOffsets,
    /// The responder from each offset on. Empty if unknown: then every viewer's terminal answers.
    pub(super) turns: Arc<[ResponderFrom]>,
    /// The terminal's size from each offset on.
    pub(super) sizes: Arc<[SizeFrom]>,
    /// The processes whose output the job waits for after its command has ended. Empty if they cannot be seen.
    pub(super) waiting: Option<Vec<OutputHolder>>,
    /// The result, once the job is over. The log does not grow after that.
    pub(super) ended: Option<Arc<JobResult>>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            totals: StreamOffsets::default(),
            turns: Arc::new([]),
            sizes: Arc::new([]),
            waiting: None,
            ended: None,
        }
    }
}

impl Progress {
    /// The responder as one viewer sees it. `None` if unknown.
    pub(super) fn asked(&self, inbox: &str) -> Option<Responder> {
        let all = self
            .turns
            .iter()
            .map(|turn| attach::ResponderChange { at: turn.at, asked: turn.writer == inbox });
        let mut turns: Vec<attach::ResponderChange> = all.collect();
        turns.dedup_by_key(|turn| turn.asked);
        (!turns.is_empty()).then_some(Responder { turns })
    }
}
