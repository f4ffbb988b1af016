//! What a job tells all its viewers: how far its log goes, and how it ended.

use std::sync::Arc;

use crate::protocol::exec::JobResult;
use crate::protocol::window::Totals;

/// How a job stands.
#[derive(Debug, Clone, Default)]
pub(super) struct News {
    /// How much the command has written so far.
    pub(super) totals: Totals,
    /// How it ended, once it is over: then nothing more comes into the log.
    pub(super) ended: Option<Arc<JobResult>>,
}
