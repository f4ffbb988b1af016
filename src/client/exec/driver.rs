//! The task of an execution: it owns all state and never blocks inside its one loop.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::phase::{Phase, RESUME_FOR, Repeats, SETTLING, SILENCE, TimerAction, resume_pause};
use super::recv_window::RecvWindow;
use super::stdin_sender::StdinSender;
use super::{Completion, ControlCommand, Event, Start, Timeouts};
use peerbus_bus::{Bus, ConnectionState, Incoming, Mailbox, Outgoing};
use peerbus_protocol::attach::{AttachFrom, AttachRequest, ResizeRequest, Within};
use peerbus_protocol::control::{
    CREDIT_EVERY_MS, CancelAnswer, CancelRequest, Cancelled, Credit, INSTANCE_HEADER, ReleaseRequest, Resume,
    SignalRequest,
};
use peerbus_protocol::ending::StartFailure;
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::frame::{self, Accepted, Alive, FrameKind, Gap, Signalled, StdinCredit, StreamKind};
use peerbus_protocol::reassembly::SequenceCheck;
use peerbus_protocol::send_buffer::StreamOffsets;
use peerbus_protocol::subjects::{self, Verb};
use peerbus_protocol::tty::TtySize;
use peerbus_protocol::{Ending, Instance, JobId, PeerId, decode};

/// Interval of repeated credits when nothing is written.
const CREDIT_EVERY: Duration = Duration::from_millis(CREDIT_EVERY_MS);

/// Retry interval of signals, cancels and unconfirmed stdin.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// Retry interval of a request to an absent peer.
const TRY_ABSENT_AGAIN: Duration = Duration::from_millis(250);

/// Space reserved for the headers of a stdin chunk, in bytes.
const HEADERS: usize = 512;

/// The channels between the driver and the execution's owner.
pub(super) struct Channels {
    pub(super) tell: mpsc::UnboundedSender<Event>,
    pub(super) listen: mpsc::UnboundedReceiver<ControlCommand>,
    pub(super) stdin: mpsc::Receiver<Bytes>,
}

/// Everything that can wake the driver.
enum Input {
    Message(Incoming),
    Word(Option<ControlCommand>),
    Stdin(Option<Bytes>),
    Link(ConnectionState),
    Clock,
}

mod inbound;
mod outbound;
mod timers;

struct Driver {
    bus: Bus,
    peer: PeerId,
    job: JobId,
    question: Start,
    reply: String,
    tell: mpsc::UnboundedSender<Event>,
    phase: Phase,
    recv_window: RecvWindow,
    feed: StdinSender,
    instance: Option<Instance>,
    link: ConnectionState,
    /// Time of the last change of the link.
    link_since: Instant,
    absent_until: Instant,
    /// Whether an earlier copy of the request may have arrived.
    may_have_arrived: bool,
    /// The last resume that the peer answered.
    resumed: Option<Resumed>,
    signals: Vec<SignalRequest>,
    signals_said: u64,
    /// The size of the terminal, and the resize request until it is confirmed.
    size: Option<TtySize>,
    resize: Option<ResizeRequest>,
    sizes_said: u64,
    /// Whether the job survives without us.
    durable: bool,
    /// Whether we detached from the job.
    left: bool,
    /// Who detached us, if someone else did.
    left_by: Option<String>,
    cancel: Option<String>,
    /// Whether the command has ended and other processes hold its output.
    waits: bool,
    /// Whether to stop waiting for that output.
    released: bool,
    /// The challenge that the next signature must cover.
    challenge: Option<String>,
    /// The nonce that all signatures of this attachment cover.
    nonce: Option<String>,
    /// Bytes that redraw the terminal in this epoch, and events beside the output.
    screen_bytes: usize,
    beside: u64,
    /// The signatures of the request's copies.
    signatures: Vec<String>,
    say_again: Instant,
    credit_again: Instant,
    outcome: Option<Completion>,
}

/// A resume that the peer answered. If the next one follows at once and nothing arrived between them,
/// both count as one attempt. Otherwise a frame that never arrives would be requested forever without
/// pause.
struct Resumed {
    since: Instant,
    asked: usize,
    at: Instant,
    received: StreamOffsets,
}

/// Runs an execution to its end.
pub(super) async fn hold(
    bus: Bus,
    about: (PeerId, JobId),
    question: Start,
    patience: Timeouts,
    ends: Channels,
) {
    let Channels { tell, mut listen, mut stdin } = ends;
    let mut mailbox = bus.mailbox();
    let mut link = bus.link();
    let now = *link.borrow_and_update();
    let mut conversation = Driver::new(bus, about, question, patience, &mailbox, tell, now);
    loop {
        conversation.on_clock(Instant::now()).await;
        if conversation.is_over() {
            break;
        }
        let input = tokio::select! {
            message = mailbox.next() => Input::Message(message),
            word = listen.recv() => Input::Word(word),
            chunk = stdin.recv(), if conversation.feed.has_room() => Input::Stdin(chunk),
            Ok(()) = link.changed() => Input::Link(*link.borrow_and_update()),
            () = tokio::time::sleep_until(conversation.deadline().into()) => Input::Clock,
        };
        conversation.take(input).await;
    }
    conversation.say_done().await;
}

impl Driver {
    fn new(
        bus: Bus,
        (peer, job): (PeerId, JobId),
        question: Start,
        patience: Timeouts,
        mailbox: &Mailbox,
        tell: mpsc::UnboundedSender<Event>,
        link: ConnectionState,
    ) -> Self {
        let now = Instant::now();
        let (window, durable, size) = match &question {
            Start::Exec { window, durable, .. } => (*window, *durable, None),
            Start::Attach(how) => (how.window, true, how.tty),
        };
        Self {
            bus,
            peer,
            job,
            question,
            reply: mailbox.subject().to_owned(),
            tell,
            phase: Phase::Asking(Repeats::starting(now)),
            recv_window: RecvWindow::new(window),
            feed: StdinSender::default(),
            instance: None,
            link,
            link_since: now,
            absent_until: now + patience.absent,
            may_have_arrived: false,
            resumed: None,
            signals: Vec::new(),
            signals_said: 0,
            size,
            resize: None,
            // The first request carried the initial size.
            sizes_said: u64::from(size.is_some()),
            durable,
            left: false,
            left_by: None,
            cancel: None,
            waits: false,
            released: false,
            challenge: None,
            nonce: None,
            screen_bytes: 0,
            beside: 0,
            signatures: Vec::new(),
            say_again: now,
            credit_again: now + CREDIT_EVERY,
            outcome: None,
        }
    }

    /// Whether the ending is known and all output is written, or we detached.
    fn is_over(&self) -> bool {
        self.left || (self.outcome.is_some() && self.recv_window.all_written())
    }

    async fn take(&mut self, input: Input) {
        let now = Instant::now();
        match input {
            Input::Message(message) if message.no_responders => self.on_absent(now),
            Input::Message(message) => self.on_message(&message, now).await,
            Input::Word(word) => self.on_word(word, now).await,
            Input::Stdin(chunk) => {
                self.feed.push(chunk);
                self.send_stdin(now).await;
            }
            Input::Link(link) => self.on_link(link, now),
            Input::Clock => {}
        }
    }

    async fn on_word(&mut self, word: Option<ControlCommand>, now: Instant) {
        match word {
            Some(ControlCommand::Wrote { stream, bytes }) => {
                self.recv_window.wrote(stream, bytes);
                if self.recv_window.credit_is_due() {
                    self.send_credit(now).await;
                }
            }
            // The command may not have started, so a signal has no target: cancel instead.
            Some(ControlCommand::Interrupt | ControlCommand::Kill) if self.instance.is_none() => {
                self.turn_away("interrupted", now)
            }
            Some(ControlCommand::Interrupt | ControlCommand::Kill) if self.waits && !self.released => {
                self.released = true;
                self.say_again = now;
            }
            Some(ControlCommand::Kill) if self.released => self.forget(),
            Some(ControlCommand::Interrupt) => self.signal("INT", now),
            Some(ControlCommand::Kill) => self.signal("KILL", now),
            Some(ControlCommand::Cancel(why)) => self.call_off(why, now),
            Some(ControlCommand::Resize(size)) => self.resize_to(size, now),
            Some(ControlCommand::OutputClosed) => self.turn_away("the caller's output was closed", now),
            Some(ControlCommand::InputLost) => {
                self.turn_away("the caller's standard input could not be read", now)
            }
            // The job may not have started, and no one would know of it: cancel instead.
            Some(ControlCommand::Detach)
                if self.durable && self.instance.is_some() && self.cancel.is_none() =>
            {
                self.left = true;
            }
            Some(ControlCommand::Detach) => self.turn_away("its caller went away", now),
            Some(ControlCommand::Forget) => self.forget(),
            None if self.durable => self.left = true,
            None => {
                // The owner is gone, so no one needs the job.
                self.cancel.get_or_insert_with(|| "its caller went away".to_owned());
                self.send_cancel().await;
                self.forget();
            }
        }
    }

    fn signal(&mut self, signal: &str, now: Instant) {
        self.signals_said += 1;
        self.signals.push(SignalRequest { n: self.signals_said, instance: None, signal: signal.to_owned() });
        self.say_again = now;
    }

    fn forget(&mut self) {
        self.finish(Ending::Unknown { why: "nobody waited for it".to_owned() });
        self.recv_window = RecvWindow::new(1);
    }

    /// Cancels a job that we started; detaches from one that we attached to.
    fn turn_away(&mut self, why: &str, now: Instant) {
        match self.question {
            Start::Exec { .. } => self.call_off(why.to_owned(), now),
            Start::Attach(_) => self.left = true,
        }
    }

    fn resize_to(&mut self, size: TtySize, now: Instant) {
        self.size = Some(size);
        self.sizes_said += 1;
        let TtySize { cols, rows } = size;
        self.resize = Some(ResizeRequest { n: self.sizes_said, instance: None, cols, rows });
        self.say_again = now;
    }

    /// Whether this execution sends stdin to the job.
    fn writes(&self) -> bool {
        match &self.question {
            Start::Exec { .. } => true,
            Start::Attach(how) => how.write,
        }
    }

    /// The jobs that display this execution's output.
    fn within(&self) -> &[Within] {
        match &self.question {
            Start::Exec { within, .. } => within,
            Start::Attach(how) => &how.within,
        }
    }

    /// Whether the peer must sign every frame.
    fn wants_it_sealed(&self) -> bool {
        matches!(&self.question, Start::Attach(how) if how.sealed)
    }

    /// Whether the viewer wants the terminal's current screen instead of its history.
    fn looks_at_a_screen(&self) -> bool {
        matches!(&self.question, Start::Attach(how) if how.from == AttachFrom::Screen)
    }

    /// Whether a frame of this kind needs a proven sender. A viewer that detaches before a result relies on
    /// all frames it got. Otherwise the result's totals and digests prove the output. Results, answers and
    /// detach notices always need proof; for a durable job, `accepted` does too.
    fn relies_on(&self, kind: FrameKind) -> bool {
        match kind {
            FrameKind::Result | FrameKind::Detached | FrameKind::Answer | FrameKind::Challenge => true,
            FrameKind::Accepted if self.durable => true,
            _ => self.wants_it_sealed(),
        }
    }

    fn call_off(&mut self, why: String, now: Instant) {
        self.cancel.get_or_insert(why);
        self.say_again = now;
        if matches!(self.phase, Phase::Asking(_)) {
            self.phase = Phase::Withdrawing(Repeats::starting(now));
        }
    }

    fn tell(&self, event: Event) {
        // The owner may be gone; the driver notices that on its command channel.
        let _ = self.tell.send(event);
    }

    fn finish(&mut self, ending: Ending) {
        self.outcome.get_or_insert_with(|| Completion::without_result(ending));
    }

    /// Tells the peer that we need nothing more, and the owner how the job ended.
    async fn say_done(mut self) {
        let outcome = self.outcome.take();
        let knows_the_end = outcome.as_ref().is_some_and(|outcome| outcome.result.is_some());
        if knows_the_end || (self.left && self.instance.is_some()) {
            let credit = Credit { done: true, ..self.recv_window.credit(self.instance) };
            self.say(Verb::Credit, decode::to_json(&credit)).await;
            self.bus.flush().await;
        }
        match outcome {
            Some(outcome) => self.tell(Event::Ended(Box::new(outcome))),
            None => {
                let by = self.left_by.take();
                self.tell(Event::Detached { at: self.recv_window.received().sum(), by });
            }
        }
    }
}
