//! What a viewer begins with, and what it is told meanwhile.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::super::context::Context;
use super::news::News;
use crate::protocol::JobId;
use crate::protocol::frame::{Accepted, FrameKind};
use crate::protocol::steer::Credit;
use crate::protocol::window::Totals;

/// Where a viewer begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begins {
    /// At a place both parts of which are known.
    At(Totals),
    /// At a combined offset, or the nearest that is held.
    Byte(u64),
}

impl Begins {
    /// The combined offset, as far as it is known.
    pub(super) fn offset(self) -> u64 {
        match self {
            Self::At(totals) => totals.sum(),
            Self::Byte(at) => at,
        }
    }
}

/// What a viewer begins with.
pub(super) struct Begin {
    pub(super) context: Arc<Context>,
    pub(super) id: JobId,
    pub(super) inbox: String,
    pub(super) epoch: u64,
    pub(super) begins: Begins,
    /// Bytes that may be sent before the first credit.
    pub(super) window: u64,
    /// Whether every frame is to be signed.
    pub(super) sealed: bool,
    pub(super) accepted: Accepted,
    /// What follows `accepted`, before any output.
    pub(super) first: Vec<(FrameKind, Bytes)>,
    pub(super) log: PathBuf,
    pub(super) news: watch::Receiver<News>,
}

/// A word to a viewer's task.
#[derive(Debug)]
pub(super) enum Word {
    Credit(Credit),
    /// Begin again, in this epoch, at what was received.
    Resume {
        epoch: u64,
        received: Totals,
        window: u64,
        accepted: Accepted,
        first: Vec<(FrameKind, Bytes)>,
    },
    /// Show the first frame of the epoch again.
    Again(Accepted),
    /// A frame beside the output.
    Control(FrameKind, Bytes),
    /// Leave, and say this.
    Leave(Bytes),
}
