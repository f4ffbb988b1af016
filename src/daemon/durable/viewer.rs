//! One viewer of a durable job: reads the log from the disk and sends it as frames, at its own pace.
//!
//! Nothing is held for it but what is on its way: what it lost is read again. So it is dropped without further ado
//! when its inbox is gone or it says nothing for [`SILENCE`], and made anew where it stands when it resumes. Where the log
//! cannot be read it is told so, and is no viewer any more.

mod log_reads;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};

use super::super::answer;
use super::super::context::{Context, ShutdownPhase};
use super::poll_state::{self, PollState};
use super::progress::Progress;
use peerbus_bus::{ConnectionState, Outgoing};
use peerbus_process::joined;
use peerbus_protocol::attach::{Responder, SizeFrom, Sizes, UNREADABLE};
use peerbus_protocol::control::Credit;
use peerbus_protocol::exec::{JobResult, OutputHolder};
use peerbus_protocol::frame::{ALIVE_EVERY_MS, Accepted, Alive, FrameKind, OUTPUT_MAX};
use peerbus_protocol::send_buffer::{Frame, SendBuffer, StreamOffsets};
use peerbus_protocol::{JobId, decode};
use peerbus_shim::log::{Piece, Reader};

/// Silence after which a viewer is dropped. It says something every 5 s.
const SILENCE: Duration = Duration::from_secs(20);

/// How often a viewer is told that its job lives.
const ALIVE_EVERY: Duration = Duration::from_millis(ALIVE_EVERY_MS);

/// What the headers of a frame take of the server's limit, in bytes, generously.
const HEADERS: usize = 1024;

/// Frames handed to the bus at a time, and pieces read ahead of them.
const HANDED_ON: usize = 4;

/// Where a viewer begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begins {
    /// At a place both parts of which are known.
    At(StreamOffsets),
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
    pub(super) news: watch::Receiver<Progress>,
}

/// A word to a viewer's task.
#[derive(Debug)]
pub(super) enum ViewerCommand {
    Credit(Credit),
    /// Begin again, in this epoch, at what was received.
    Resume {
        epoch: u64,
        received: StreamOffsets,
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

enum Event {
    Word(Option<ViewerCommand>),
    Read(Result<Done, JoinError>),
    News,
    MaySend,
    Link(ConnectionState),
    DaemonGoes,
    Clock,
}

/// A read that is done: the reader, where it looked, whether the end was known before, and what was there.
struct Done {
    reader: Reader,
    at: u64,
    is_last: bool,
    /// Whether there is nothing because there is no log.
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
    /// What was told in this epoch of who is asked.
    asked: Option<Responder>,
    /// The same of how large the terminal is: the last change.
    sized: Option<SizeFrom>,
    /// Whose output it was told in this epoch to be waited for.
    waiting: Option<Vec<OutputHolder>>,
    /// Where the log goes on, behind what is no longer held.
    dropped_to: Option<StreamOffsets>,
    /// Why it gets no more than what was read, to be told after that.
    farewell: Option<String>,
    /// After the link was lost nothing is sent until the viewer is heard again: only its word renews the right to
    /// answer it.
    muted: bool,
    heard: Instant,
    alive_next: Instant,
    done: bool,
}

impl Viewer {
    pub(super) fn new(begin: Begin, number: u64) -> Self {
        let (courier, mut messages) = mpsc::channel(HANDED_ON);
        let context = Arc::clone(&begin.context);
        // A task of its own, so that a slow bus holds up the output and nothing else.
        tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                // A frame that cannot be sent is missed by the viewer, who asks for it.
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

    /// Sees it through, until it has all it wants or is gone.
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
    /// When the log cannot be read.
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
                // Who has all, or wants no more.
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
        // Were there no room, the viewer would ask once more.
        let frame = self.send_buffer.first_again(decode::to_json(&accepted).into());
        let _ = self.courier.try_send(self.message(frame));
    }

    /// Somebody wants it to leave. The rest of the output it does not get.
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
                // It ends with the bus.
                let _ = courier.send(message).await;
            }
        });
        self.done = true;
    }

    /// This daemon goes, and the job goes on: the viewer is shown that it misses something, so that it looks for the
    /// next one at once. When this gets lost, it learns by its clock.
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

    /// Tells whose output is waited for, where that is news.
    fn tell_waiting(&mut self) {
        if self.waiting != self.begin.news.borrow().waiting && !self.send_buffer.is_closing() {
            self.tell_alive();
        }
    }
}

/// Waits until the daemon has nothing more to write down. Cancel safe.
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
