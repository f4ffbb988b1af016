//! Everything the leader hears, as one stream of events.

use std::time::Duration;

use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use crate::LeaderSettings;
use crate::leadership::QuerySubscription;
use crate::publisher::{Publisher, ReplyTo};
use crate::registry_writer::WriterEvent;
use peerbus_bus::{Bus, ConnectionState, Incoming, Mailbox, Outgoing};
use peerbus_protocol::subjects;

/// Heartbeats that may wait: several of each peer of a large fleet.
const BEATS_MAX: usize = 65_536;

/// How often time is looked at. Far below any sensible heartbeat interval.
const TICK: Duration = Duration::from_millis(250);

/// Words of the database and of background tasks that may wait; there are few of them.
const WORDS_MAX: usize = 8;

/// All that can happen.
pub(super) enum Event {
    /// A heartbeat.
    Beat(Incoming),
    /// A heartbeat that was asked for.
    Pong(Incoming),
    /// A peer's service document that was asked for.
    Document(Incoming),
    /// `peers.list`, with a place for its answer.
    List(Incoming, OwnedPermit<Outgoing>),
    /// `peers.get`, with a place for its answer.
    Get(Incoming, OwnedPermit<Outgoing>),
    /// `peers.remove`, with a place for its answer.
    Remove(Incoming, OwnedPermit<Outgoing>),
    /// The link went up or down.
    Link,
    /// The database has something to tell.
    Database(WriterEvent),
    /// Time goes by.
    Tick,
    /// A round trip to the server ended.
    Probed {
        /// The connection it was made on.
        generation: u64,
        /// When it began, by the presence clock; none when it failed.
        sent: Option<Duration>,
    },
    /// Nobody answers for the fleet any more, so this leader does.
    StandsIn(QuerySubscription),
}

/// Where it all arrives.
pub(super) struct Inputs {
    beats: mpsc::Receiver<Incoming>,
    pongs: Mailbox,
    documents: Mailbox,
    questions: Option<QuerySubscription>,
    answers: mpsc::Sender<Outgoing>,
    link: watch::Receiver<ConnectionState>,
    reports: mpsc::Receiver<WriterEvent>,
    ticks: Interval,
    background: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
}

impl Inputs {
    /// Begins to listen. Also returns the leader's mouth, and where the database reports.
    pub(super) async fn open(
        bus: &Bus,
        settings: &LeaderSettings,
    ) -> (Self, Publisher, mpsc::Sender<WriterEvent>) {
        let (pongs, documents) = (bus.mailbox(), bus.mailbox());
        let reply =
            ReplyTo { documents: documents.subject().to_owned(), heartbeats: pongs.subject().to_owned() };
        let post = Publisher::open(bus, settings.peer.clone(), settings.instance, reply);
        let (to_reports, reports) = mpsc::channel(WORDS_MAX);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let inputs = Self {
            beats: bus.subscribe(subjects::ALIVE, None, BEATS_MAX).await,
            pongs,
            documents,
            questions: Some(QuerySubscription::open(bus).await),
            answers: post.answers(),
            link: bus.link(),
            reports,
            ticks,
            background: mpsc::channel(WORDS_MAX),
        };
        (inputs, post, to_reports)
    }

    /// The next event. Nothing is lost when this is dropped before it is there.
    pub(super) async fn next(&mut self) -> Event {
        tokio::select! {
            beat = or_wait(self.beats.recv()) => Event::Beat(beat),
            pong = self.pongs.next() => Event::Pong(pong),
            document = self.documents.next() => Event::Document(document),
            question = question(self.questions.as_mut(), &self.answers) => question,
            Ok(()) = self.link.changed() => Event::Link,
            report = or_wait(self.reports.recv()) => Event::Database(report),
            word = or_wait(self.background.1.recv()) => word,
            _ = self.ticks.tick() => Event::Tick,
        }
    }

    /// A heartbeat that has arrived already, if there is one.
    pub(super) fn waiting_beat(&mut self) -> Option<Incoming> {
        self.beats.try_recv().ok()
    }

    /// The state of the link.
    pub(super) fn link(&mut self) -> ConnectionState {
        *self.link.borrow_and_update()
    }

    /// Where background tasks say what they found.
    pub(super) fn background(&self) -> mpsc::Sender<Event> {
        self.background.0.clone()
    }

    /// Whether this leader is the one who answers and tells.
    pub(super) fn answers_for_the_fleet(&self) -> bool {
        self.questions.is_some()
    }

    /// Answers from now on.
    pub(super) fn answer_for_the_fleet(&mut self, questions: QuerySubscription) {
        self.questions = Some(questions);
    }

    /// Answers no more.
    pub(super) fn give_way(&mut self) {
        self.questions = None;
    }
}

/// The next question, once there is a place for its answer.
async fn question(questions: Option<&mut QuerySubscription>, answers: &mpsc::Sender<Outgoing>) -> Event {
    let Some(questions) = questions else { return std::future::pending().await };
    let Ok(place) = answers.clone().reserve_owned().await else { return std::future::pending().await };
    tokio::select! {
        question = or_wait(questions.list.recv()) => Event::List(question, place),
        question = or_wait(questions.get.recv()) => Event::Get(question, place),
        question = or_wait(questions.remove.recv()) => Event::Remove(question, place),
    }
}

/// A channel whose other end is gone has nothing more to say; that ends nothing else.
async fn or_wait<T>(next: impl Future<Output = Option<T>>) -> T {
    match next.await {
        Some(next) => next,
        None => std::future::pending().await,
    }
}
