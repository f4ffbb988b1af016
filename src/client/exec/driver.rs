//! The task behind an execution: one owner of all its state, one loop, no waiting inside it.

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

/// How often a credit is repeated when nothing is written.
const CREDIT_EVERY: Duration = Duration::from_millis(CREDIT_EVERY_MS);

/// How often a signal, a cancel or unconfirmed stdin is said again.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// How soon a request is tried again on a peer that is not there (yet).
const TRY_ABSENT_AGAIN: Duration = Duration::from_millis(250);

/// What the headers of a chunk of stdin take of the server's limit, in bytes, generously.
const HEADERS: usize = 512;

/// The channels between a conversation and its owner.
pub(super) struct Channels {
    pub(super) tell: mpsc::UnboundedSender<Event>,
    pub(super) listen: mpsc::UnboundedReceiver<ControlCommand>,
    pub(super) stdin: mpsc::Receiver<Bytes>,
}

/// Everything that can happen to a conversation.
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
    /// Since when the link is as it is.
    link_since: Instant,
    absent_until: Instant,
    /// Whether a copy of the request may have arrived before the last one was sent.
    may_have_arrived: bool,
    /// The last resume that was answered.
    resumed: Option<Resumed>,
    signals: Vec<SignalRequest>,
    signals_said: u64,
    /// The size of the terminal, and the word of it until it is confirmed.
    size: Option<TtySize>,
    resize: Option<ResizeRequest>,
    sizes_said: u64,
    /// Whether the job goes on without us.
    durable: bool,
    /// Whether it was left to itself.
    left: bool,
    /// Who had us leave it, if it was not us.
    left_by: Option<String>,
    cancel: Option<String>,
    /// Whether the command has ended and is told to have left its output to others.
    waits: bool,
    /// Whether it is to be waited for no longer.
    released: bool,
    /// What the peer wants the request, or the next word, signed over.
    challenge: Option<String>,
    /// What the words of this attachment are signed over.
    nonce: Option<String>,
    /// What came in this epoch to draw a terminal, in bytes, and words beside the output.
    screen_bytes: usize,
    beside: u64,
    /// The signatures of the request's copies.
    signatures: Vec<String>,
    say_again: Instant,
    credit_again: Instant,
    outcome: Option<Completion>,
}

/// A resume that was answered. When the next one follows at once and nothing was received between
/// them, they are one attempt: a frame that cannot arrive is not asked for without pause or end.
struct Resumed {
    since: Instant,
    asked: usize,
    at: Instant,
    received: StreamOffsets,
}

/// Holds a conversation to its end.
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
            // The first was said with the question.
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

    /// Over when the ending is known and all output was written, or when the job was left.
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
            // A command that may not have begun cannot be signalled; it is called off.
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
            // What may not have begun is called off: nobody would know of it.
            Some(ControlCommand::Detach)
                if self.durable && self.instance.is_some() && self.cancel.is_none() =>
            {
                self.left = true;
            }
            Some(ControlCommand::Detach) => self.turn_away("its caller went away", now),
            Some(ControlCommand::Forget) => self.forget(),
            None if self.durable => self.left = true,
            None => {
                // The owner is gone: what it started is of no use to anybody.
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

    /// Nobody wants it any more: what was started for us is called off, what others have started is left.
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

    /// Whether what is typed goes to the job.
    fn writes(&self) -> bool {
        match &self.question {
            Start::Exec { .. } => true,
            Start::Attach(how) => how.write,
        }
    }

    /// From within which jobs it is followed.
    fn within(&self) -> &[Within] {
        match &self.question {
            Start::Exec { within, .. } => within,
            Start::Attach(how) => &how.within,
        }
    }

    /// Whether every frame is to be proved to be the peer's.
    fn wants_it_sealed(&self) -> bool {
        matches!(&self.question, Start::Attach(how) if how.sealed)
    }

    /// Whether a terminal is looked at, as it stands and not as it came about.
    fn looks_at_a_screen(&self) -> bool {
        matches!(&self.question, Start::Attach(how) if how.from == AttachFrom::Screen)
    }

    /// Who leaves before there is a result relies on what came until then; the rest is held against the totals and
    /// digests of the result, and without that there is no ending. Everybody relies on what says that there is none.
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
        // The owner may be gone; the conversation notices by its words.
        let _ = self.tell.send(event);
    }

    fn finish(&mut self, ending: Ending) {
        self.outcome.get_or_insert_with(|| Completion::without_result(ending));
    }

    /// Tells the peer that nothing more is needed, and the owner how it ended.
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
