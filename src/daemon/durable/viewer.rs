//! One viewer of a durable job: reads the log from the disk and sends it as frames, at its own pace.
//!
//! The daemon keeps only the frames in flight for a viewer, and reads lost ones again. So it drops a viewer whose
//! inbox is gone or that is silent for [`SILENCE`], and starts a new one at the right offset when the client
//! resumes. If the log cannot be read, the viewer gets an error and ends.

mod log_reads;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};

use super::poll_state::{self, PollState};
use super::progress::Progress;
use crate::answer;
use crate::context::{Context, ShutdownPhase};
use peerbus_bus::{ConnectionState, Outgoing};
use peerbus_process::joined;
use peerbus_protocol::attach::{Responder, SizeFrom, Sizes, UNREADABLE};
use peerbus_protocol::control::Credit;
use peerbus_protocol::exec::{JobResult, OutputHolder};
use peerbus_protocol::frame::{ALIVE_EVERY_MS, Accepted, Alive, FrameKind, OUTPUT_MAX};
use peerbus_protocol::send_buffer::{Frame, SendBuffer, StreamOffsets};
use peerbus_protocol::{JobId, decode};
use peerbus_shim::log::{Piece, Reader};

/// Silence after which the daemon drops a viewer. A client sends something every 5 s.
const SILENCE: Duration = Duration::from_secs(20);

/// Interval of `alive` frames to a viewer.
const ALIVE_EVERY: Duration = Duration::from_millis(ALIVE_EVERY_MS);

/// Upper bound for the headers of a frame, which count against the server's limit, in bytes.
const HEADERS: usize = 1024;

/// Frames handed to the bus at a time, and pieces read ahead of them.
const HANDED_ON: usize = 4;

/// Where a viewer starts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begins {
    /// At known offsets of both streams.
    At(StreamOffsets),
    /// At a combined offset, or at the nearest one that is kept.
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

/// Parameters of a new viewer.
pub(super) struct Begin {
    pub(super) context: Arc<Context>,
    pub(super) id: JobId,
    pub(super) inbox: String,
    pub(super) epoch: u64,
    pub(super) begins: Begins,
    /// Bytes that may be sent before the first credit.
    pub(super) window: u64,
    /// Whether to sign every frame.
    pub(super) sealed: bool,
    pub(super) accepted: Accepted,
    /// Frames to send after `accepted`, before any output.
    pub(super) first: Vec<(FrameKind, Bytes)>,
    pub(super) log: PathBuf,
    pub(super) news: watch::Receiver<Progress>,
}

/// A command to a viewer's task.
#[derive(Debug)]
pub(super) enum ViewerCommand {
    Credit(Credit),
    /// Resume in this epoch at the received offset.
    Resume {
        epoch: u64,
        received: StreamOffsets,
        window: u64,
        accepted: Accepted,
        first: Vec<(FrameKind, Bytes)>,
    },
    /// Repeat the first frame of the epoch.
    Again(Accepted),
    /// Send a frame that is no output.
    Control(FrameKind, Bytes),
    /// Send this last frame and end.
    Leave(Bytes),
}

enum Event {
    Word(Option<ViewerCommand>),
    Read(Result<Done, JoinError>),
    News,
    MaySend,
    Link(ConnectionState),
    DaemonGoes,
    Clock,
}

/// A completed read: the reader, its position, whether the end was known before, and the data.
struct Done {
    reader: Reader,
    at: u64,
    is_last: bool,
    /// Whether there is no data because there is no log.
    is_gone: bool,
    piece: std::io::Result<Piece>,
}

pub(super) struct Viewer {
    begin: Begin,
    number: u64,
    send_buffer: SendBuffer,
    courier: mpsc::Sender<Outgoing>,
    reader: Option<Reader>,
    reading: Option<JoinHandle<Done>>,
    look: PollState,
    /// The responder last reported in this epoch.
    asked: Option<Responder>,
    /// The terminal size last reported in this epoch.
    sized: Option<SizeFrom>,
    /// The processes last reported in this epoch whose output the job waits for.
    waiting: Option<Vec<OutputHolder>>,
    /// Where the log continues after a part that is no longer kept.
    dropped_to: Option<StreamOffsets>,
    /// The error to send after the data read so far, before the viewer ends.
    farewell: Option<String>,
    /// Set when the link is lost: the viewer sends nothing until the client's next message renews its reply
    /// permission.
    muted: bool,
    heard: Instant,
    alive_next: Instant,
    done: bool,
}

impl Viewer {
    pub(super) fn new(begin: Begin, number: u64) -> Self {
        let (courier, mut messages) = mpsc::channel(HANDED_ON);
        let context = Arc::clone(&begin.context);
        // A separate task sends the frames, so a slow bus delays only the output.
        tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                // The client notices a missing frame and asks for it.
                let _ = context.bus.publish_bulk(message).await;
            }
        });
        let now = Instant::now();
        Self {
            send_buffer: SendBuffer::new(begin.window),
            number,
            courier,
            reader: Some(Reader::open(&begin.log)),
            reading: None,
            look: PollState::default(),
            asked: None,
            sized: None,
            waiting: None,
            dropped_to: None,
            farewell: None,
            muted: false,
            heard: now,
            alive_next: now + ALIVE_EVERY,
            done: false,
            begin,
        }
    }

    /// Runs until the client has everything it wants or is gone.
    pub(super) async fn live(mut self, mut words: mpsc::UnboundedReceiver<ViewerCommand>) {
        let context = Arc::clone(&self.begin.context);
        let mut link = context.bus.link();
        let mut known = *link.borrow_and_update();
        let mut leaving = context.leaving.subscribe();
        let at = match self.find_beginning().await {
            Ok(at) => at,
            Err(error) => {
                let sentence = self.unreadable(&error.to_string());
                return answer::cannot(&context, &self.begin.inbox, UNREADABLE, 500, &sentence).await;
            }
        };
        let (accepted, first) = (self.begin.accepted.clone(), std::mem::take(&mut self.begin.first));
        self.begin_at(self.begin.epoch, at, self.begin.window, accepted, first);
        while !self.done {
            self.read_on();
            let (deadline, has_message) = (self.deadline(), self.has_message());
            let happening = tokio::select! {
                word = words.recv() => Event::Word(word),
                done = joined(&mut self.reading) => Event::Read(done),
                Ok(()) = self.begin.news.changed() => Event::News,
                () = may_send(&self.courier, has_message) => Event::MaySend,
                Ok(()) = link.changed() => Event::Link(*link.borrow_and_update()),
                () = closes(&mut leaving) => Event::DaemonGoes,
                () = tokio::time::sleep_until(deadline.into()) => Event::Clock,
            };
            match happening {
                Event::Word(Some(word)) => self.on_word(word),
                Event::Word(None) => return,
                Event::Read(done) => self.on_read(done),
                Event::News => {
                    self.look.on_news();
                    self.tell_waiting();
                }
                Event::MaySend => self.send_one(),
                Event::Link(now) => {
                    if !now.up || (known.up && now.generation != known.generation) {
                        self.muted = true;
                    }
                    known = now;
                }
                Event::DaemonGoes => return self.have_resumed(),
                Event::Clock => self.on_clock(Instant::now()),
            }
        }
    }

    /// # Errors
    /// If the log cannot be read.
    async fn find_beginning(&mut self) -> std::io::Result<StreamOffsets> {
        match self.begin.begins {
            Begins::At(totals) => Ok(totals),
            Begins::Byte(at) => {
                let log = self.begin.log.clone();
                poll_state::tried(move || Reader::open(&log).totals_at(at)).await
            }
        }
    }

    fn begin_at(
        &mut self,
        epoch: u64,
        at: StreamOffsets,
        window: u64,
        accepted: Accepted,
        first: Vec<(FrameKind, Bytes)>,
    ) {
        self.send_buffer = SendBuffer::beginning_at(epoch, at, window);
        self.begin.accepted =
            Accepted { from: Some(at).filter(|at| *at != StreamOffsets::default()), ..accepted };
        self.send_buffer.control(FrameKind::Accepted, decode::to_json(&self.begin.accepted).into());
        for (kind, payload) in first {
            self.send_buffer.control(kind, payload);
        }
        (self.look, self.dropped_to, self.farewell) = (PollState::default(), None, None);
        (self.asked, self.sized, self.waiting) = (None, None, None);
        self.tell_waiting();
    }

    fn on_word(&mut self, word: ViewerCommand) {
        if !matches!(word, ViewerCommand::Control(..)) {
            self.heard = Instant::now();
            self.muted = false;
        }
        match word {
            ViewerCommand::Credit(credit) => {
                self.send_buffer.credit(&credit);
                // The client has everything, or wants no more.
                self.done |= credit.done;
            }
            ViewerCommand::Resume { epoch, received, window, accepted, first } => {
                if epoch > self.send_buffer.epoch() {
                    self.begin_at(epoch, received, window, accepted, first);
                } else if epoch == self.send_buffer.epoch() {
                    self.show_again(accepted);
                }
            }
            ViewerCommand::Again(accepted) => self.show_again(accepted),
            ViewerCommand::Leave(payload) => self.leave(payload),
            ViewerCommand::Control(kind, payload) => {
                if !self.send_buffer.is_closing() {
                    self.send_buffer.control(kind, payload);
                }
            }
        }
    }

    fn show_again(&mut self, accepted: Accepted) {
        let accepted = Accepted { from: self.begin.accepted.from, ..accepted };
        // If there is no room, the client asks once more.
        let frame = self.send_buffer.first_again(decode::to_json(&accepted).into());
        let _ = self.courier.try_send(self.message(frame));
    }

    /// Detaches the viewer. It does not get the rest of the output.
    fn leave(&mut self, payload: Bytes) {
        self.send_buffer.control(FrameKind::Detached, payload);
        let most = self.begin.context.bus.max_payload().saturating_sub(HEADERS);
        let mut last = Vec::new();
        while last.last().is_none_or(|frame: &Frame| frame.kind != FrameKind::Detached)
            && let Some(frame) = self.send_buffer.next_frame(most)
        {
            last.push(frame);
        }
        let last: Vec<_> = last.into_iter().map(|frame| self.message(frame)).collect();
        let courier = self.courier.clone();
        tokio::spawn(async move {
            for message in last {
                // Sending fails only when the bus closes.
                let _ = courier.send(message).await;
            }
        });
        self.done = true;
    }

    /// Shows the client a gap, so that it looks for the next daemon at once: this daemon ends and the job
    /// continues. If the frame is lost, the client notices by timeout.
    fn have_resumed(&self) {
        let payload = decode::to_json(&self.begin.accepted).into();
        let epoch = self.send_buffer.epoch();
        let frame = Frame { epoch, seq: u64::MAX, kind: FrameKind::Accepted, offset: None, payload };
        let _ = self.courier.try_send(self.message(frame));
    }

    fn message(&self, frame: Frame) -> Outgoing {
        let Begin { context, inbox, id, sealed, .. } = &self.begin;
        answer::viewer_message(context.peer(), inbox, (*id, self.number), frame, *sealed)
    }

    fn has_message(&self) -> bool {
        !self.muted
            && (self.send_buffer.has_frame() || (self.farewell.is_some() && self.send_buffer.unsent() == 0))
    }

    fn send_one(&mut self) {
        let most = self.begin.context.bus.max_payload().saturating_sub(HEADERS);
        let Ok(permit) = self.courier.try_reserve() else { return };
        if let Some(frame) = self.send_buffer.next_frame(most) {
            permit.send(self.message(frame));
            self.send_buffer.let_go_of_sent();
        } else if let Some(sentence) = self.farewell.take() {
            permit.send(answer::no_message(&self.begin.inbox, UNREADABLE, 500, &sentence));
            self.done = true;
        }
    }

    fn deadline(&self) -> Instant {
        let mut deadline = (self.heard + SILENCE).min(self.alive_next);
        if let Some(at) = self.look.again_at() {
            deadline = deadline.min(at);
        }
        deadline
    }

    fn on_clock(&mut self, now: Instant) {
        self.done |= now >= self.heard + SILENCE;
        self.look.on_clock(now);
        if now >= self.alive_next {
            self.alive_next = now + ALIVE_EVERY;
            if let Some(reader) = self.reader.as_mut().filter(|_| self.look.is_idle()) {
                reader.rest();
            }
            if !self.send_buffer.is_closing() {
                self.tell_alive();
            }
        }
    }
}

impl Viewer {
    fn tell_alive(&mut self) {
        let (StreamOffsets { out, err }, waiting) = {
            let news = self.begin.news.borrow();
            (news.totals, news.waiting.clone())
        };
        self.waiting.clone_from(&waiting);
        let stdin_received = self.begin.accepted.stdin_received;
        let alive = Alive { out, err, stdin_received, waiting };
        self.send_buffer.control(FrameKind::Alive, decode::to_json(&alive).into());
    }

    /// Reports a change of the processes whose output the job waits for.
    fn tell_waiting(&mut self) {
        if self.waiting != self.begin.news.borrow().waiting && !self.send_buffer.is_closing() {
            self.tell_alive();
        }
    }
}

/// Waits until the daemon writes no more records. Cancel safe.
async fn closes(leaving: &mut watch::Receiver<ShutdownPhase>) {
    if leaving.wait_for(|stage| *stage == ShutdownPhase::Closing).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until a message can be sent, if there is one. Cancel safe.
async fn may_send(courier: &mpsc::Sender<Outgoing>, has_message: bool) {
    if has_message && courier.reserve().await.is_ok() {
        return;
    }
    std::future::pending().await
}
