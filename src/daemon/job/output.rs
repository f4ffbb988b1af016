//! Where a job's output goes: a stream of frames to a caller who grants credit, or a collection
//! that becomes one JSON reply.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::super::answer;
use super::super::context::Context;
use peerbus_protocol::JobId;
use peerbus_protocol::frame::{FrameKind, OUTPUT_MAX, StreamKind};
use peerbus_protocol::reply::Collectors;
use peerbus_protocol::send_buffer::{Frame, SendBuffer, StreamOffsets};

/// What the headers of a frame take of the server's limit, in bytes, generously.
const HEADERS: usize = 1024;

/// Frames handed to the bus at a time. The rest waits here, where a resume can still rewind it.
const HANDED_ON: usize = 4;

/// Most callers who wait for one answer; more are told to ask again.
const WAITING_MOST: usize = 256;

pub(super) enum Output {
    Stream(Stream),
    Plain(Plain),
}

/// A caller who reads along.
pub(super) struct Stream {
    pub(super) send_buffer: SendBuffer,
    courier: mpsc::Sender<Frame>,
    /// After the link or the caller was lost, nothing is sent until the caller is heard again:
    /// only its word renews the right to answer.
    pub(super) muted: bool,
    /// Whether nobody will ever read this: output is dropped, so that the command can end.
    pub(super) discarding: bool,
}

/// Callers who wait for the one answer.
pub(super) struct Plain {
    pub(super) collectors: Collectors,
    pub(super) waiting: Vec<String>,
    totals: StreamOffsets,
}

impl Output {
    /// A stream with the caller's first window. Frames are carried by a task of their own, so that
    /// a slow bus holds up the output and not the job.
    pub(super) fn stream(context: &Arc<Context>, caller: String, id: JobId, window: u64) -> Self {
        let (courier, mut frames) = mpsc::channel::<Frame>(HANDED_ON);
        let context = Arc::clone(context);
        tokio::spawn(async move {
            while let Some(frame) = frames.recv().await {
                let message = answer::frame_message(context.peer(), &caller, id, frame);
                // A frame that cannot be sent is missed by the caller, who asks for it.
                let _ = context.bus.publish_bulk(message).await;
            }
        });
        Self::Stream(Stream {
            send_buffer: SendBuffer::new(window),
            courier,
            muted: false,
            discarding: false,
        })
    }

    /// A collection for one JSON reply, for the caller who waits for it, if any: of at most what the server takes.
    pub(super) fn plain(context: &Context, caller: Option<String>) -> Self {
        let collectors = Collectors::new(context.bus.max_payload());
        let waiting = caller.into_iter().collect();
        Self::Plain(Plain { collectors, waiting, totals: StreamOffsets::default() })
    }

    /// Bytes that may be read from the command now.
    pub(super) fn room(&self) -> u64 {
        match self {
            Self::Stream(stream) if stream.discarding => OUTPUT_MAX as u64,
            Self::Stream(stream) => stream.send_buffer.room(),
            Self::Plain(_) => OUTPUT_MAX as u64,
        }
    }

    /// Takes what was read from the command.
    pub(super) fn push(&mut self, stream: StreamKind, bytes: Bytes) {
        match self {
            Self::Stream(sink) => {
                sink.send_buffer.push(stream, bytes);
                if sink.discarding {
                    sink.send_buffer.give_up();
                }
            }
            Self::Plain(plain) => {
                *plain.totals.of_mut(stream) += bytes.len() as u64;
                plain.collectors.push(stream, &bytes);
            }
        }
    }

    /// Bytes read from the command so far.
    pub(super) fn totals(&self) -> StreamOffsets {
        match self {
            Self::Stream(stream) => stream.send_buffer.read(),
            Self::Plain(plain) => plain.totals,
        }
    }

    /// Callers who read along, or wait for the answer.
    pub(super) fn viewers(&self) -> u32 {
        match self {
            Self::Stream(stream) => u32::from(!stream.muted && !stream.discarding),
            Self::Plain(plain) => u32::try_from(plain.waiting.len()).unwrap_or(u32::MAX),
        }
    }

    /// The stream, where it is one.
    pub(super) fn as_stream(&mut self) -> Option<&mut Stream> {
        match self {
            Self::Stream(stream) => Some(stream),
            Self::Plain(_) => None,
        }
    }

    /// Queues a control frame, where there is a stream for it that has not come to its result.
    pub(super) fn control(&mut self, kind: FrameKind, body: Vec<u8>) {
        if let Self::Stream(stream) = self
            && !stream.send_buffer.is_closing()
        {
            stream.send_buffer.control(kind, body.into());
        }
    }

    /// Waits until a frame can be sent. Cancel safe.
    pub(super) async fn may_send(&self) {
        if let Self::Stream(stream) = self
            && !stream.muted
            && stream.send_buffer.has_frame()
            && stream.courier.reserve().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// Sends the next frame.
    pub(super) fn send_one(&mut self, max_payload: usize) {
        if let Self::Stream(stream) = self
            && let Ok(permit) = stream.courier.try_reserve()
            && let Some(frame) = stream.send_buffer.next_frame(max_payload.saturating_sub(HEADERS))
        {
            permit.send(frame);
        }
    }
}

impl Plain {
    /// Has somebody wait for the answer; says whether there was room.
    pub(super) fn wait(&mut self, caller: &str) -> bool {
        if self.waiting.iter().any(|waiting| waiting == caller) {
            return true;
        }
        let room = self.waiting.len() < WAITING_MOST;
        if room {
            self.waiting.push(caller.to_owned());
        }
        room
    }
}

impl Stream {
    /// Shows a caller that asked twice the first frame again.
    pub(super) fn show_again(&mut self, accepted: Vec<u8>) {
        // Were there no room, the caller would ask once more.
        let _ = self.courier.try_send(self.send_buffer.first_again(accepted.into()));
    }
}
