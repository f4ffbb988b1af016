//! The sink of a job's output: a stream of frames to a caller that grants credit, or a buffer that becomes one JSON
//! reply.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::answer;
use crate::context::Context;
use peerbus_protocol::JobId;
use peerbus_protocol::frame::{FrameKind, OUTPUT_MAX, StreamKind};
use peerbus_protocol::reply::Collectors;
use peerbus_protocol::send_buffer::{Frame, SendBuffer, StreamOffsets};

/// Upper bound for the headers of a frame, which count against the server's limit, in bytes.
const HEADERS: usize = 1024;

/// Frames handed to the bus at a time. A resume can still rewind the frames that wait here.
const HANDED_ON: usize = 4;

/// Maximum number of callers waiting for one answer. The job asks further ones to retry.
const WAITING_MOST: usize = 256;

pub(super) enum Output {
    Stream(Stream),
    Plain(Plain),
}

/// A caller that follows the output.
pub(super) struct Stream {
    pub(super) send_buffer: SendBuffer,
    courier: mpsc::Sender<Frame>,
    /// Set when the link or the caller is lost: the job sends nothing until the caller's next message renews its
    /// reply permission.
    pub(super) muted: bool,
    /// Whether all output is dropped because nobody will read it, so that the command can end.
    pub(super) discarding: bool,
}

/// Callers waiting for the one answer.
pub(super) struct Plain {
    pub(super) collectors: Collectors,
    pub(super) waiting: Vec<String>,
    totals: StreamOffsets,
}

impl Output {
    /// A stream with the caller's first window. A separate task sends the frames, so a slow bus delays the output
    /// but not the job.
    pub(super) fn stream(context: &Arc<Context>, caller: String, id: JobId, window: u64) -> Self {
        let (courier, mut frames) = mpsc::channel::<Frame>(HANDED_ON);
        let context = Arc::clone(context);
        tokio::spawn(async move {
            while let Some(frame) = frames.recv().await {
                let message = answer::frame_message(context.peer(), &caller, id, frame);
                // The caller notices a missing frame and asks for it.
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

    /// Collects one JSON reply of at most `max_payload` bytes for the waiting caller, if any.
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

    /// Appends output of the command.
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

    /// Number of callers that follow the output or wait for the answer.
    pub(super) fn viewers(&self) -> u32 {
        match self {
            Self::Stream(stream) => u32::from(!stream.muted && !stream.discarding),
            Self::Plain(plain) => u32::try_from(plain.waiting.len()).unwrap_or(u32::MAX),
        }
    }

    /// The stream, if the output is one.
    pub(super) fn as_stream(&mut self) -> Option<&mut Stream> {
        match self {
            Self::Stream(stream) => Some(stream),
            Self::Plain(_) => None,
        }
    }

    /// Queues a control frame, if there is a stream that has not sent its result yet.
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
    /// Adds a caller waiting for the answer. False if there is no room.
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
    /// Repeats the first frame for a caller that sent its request again.
    pub(super) fn show_again(&mut self, accepted: Vec<u8>) {
        // If there is no room, the caller asks once more.
        let _ = self.courier.try_send(self.send_buffer.first_again(accepted.into()));
    }
}
