//! What a job tells all its viewers: how far its log goes, and how it ended.

use std::sync::Arc;

use peerbus_protocol::attach::{self, Responder, SizeFrom};
use peerbus_protocol::exec::{JobResult, OutputHolder};
use peerbus_protocol::send_buffer::StreamOffsets;
use peerbus_shim::messages::ResponderFrom;

/// How a job stands.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    /// How much the command has written so far.
    pub(super) totals: StreamOffsets,
    /// Whose terminal answers what the command asks. None where nobody knows: then they all do.
    pub(super) turns: Arc<[ResponderFrom]>,
    /// How large its terminal is, from which byte on.
    pub(super) sizes: Arc<[SizeFrom]>,
    /// Whose output is waited for after the command's own end; empty where nobody can see them.
    pub(super) waiting: Option<Vec<OutputHolder>>,
    /// How it ended, once it is over: then nothing more comes into the log.
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
    /// What one viewer is told of who is asked; none where nobody knows.
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
