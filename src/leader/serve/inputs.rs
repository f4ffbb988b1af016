//! Merges everything the leader receives into one stream of events.

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

/// Most queued heartbeats: several per peer of a large fleet.
const BEATS_MAX: usize = 65_536;

/// Period of the timer. Far below any sensible heartbeat interval.
const TICK: Duration = Duration::from_millis(250);

/// Most queued reports of the database and of background tasks, which are few.
const WORDS_MAX: usize = 8;

/// Every event the leader reacts to.
pub(super) enum Event {
    /// A heartbeat.
    Beat(Incoming),
    /// A heartbeat that we requested.
    Pong(Incoming),
    /// A peer's service document that we requested.
    Document(Incoming),
    /// `peers.list`, with a permit to send its answer.
    List(Incoming, OwnedPermit<Outgoing>),
    /// `peers.get`, with a permit to send its answer.
    Get(Incoming, OwnedPermit<Outgoing>),
    /// `peers.remove`, with a permit to send its answer.
    Remove(Incoming, OwnedPermit<Outgoing>),
    /// The link went up or down.
    Link,
    /// A report of the registry writer.
    Database(WriterEvent),
    /// The timer.
    Tick,
    /// A round trip to the server ended.
    Probed {
        /// The connection it was made on.
        generation: u64,
        /// When it began, by the presence clock; `None` if it failed.
        sent: Option<Duration>,
    },
    /// No other leader answers queries any more, so this one takes over.
    StandsIn(QuerySubscription),
}

/// The sources of all events.
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
    /// Subscribes to everything. Also returns the publisher, and the channel for the registry
    /// writer's reports.
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

    /// The next event. Cancel safe: dropping this future loses no event.
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

    /// A heartbeat that has already arrived, if any.
    pub(super) fn waiting_beat(&mut self) -> Option<Incoming> {
        self.beats.try_recv().ok()
    }

    /// The state of the link.
    pub(super) fn link(&mut self) -> ConnectionState {
        *self.link.borrow_and_update()
    }

    /// The channel for events of background tasks.
    pub(super) fn background(&self) -> mpsc::Sender<Event> {
        self.background.0.clone()
    }

    /// Whether this leader answers queries and publishes events.
    pub(super) fn answers_for_the_fleet(&self) -> bool {
        self.questions.is_some()
    }

    /// Starts to answer queries.
    pub(super) fn answer_for_the_fleet(&mut self, questions: QuerySubscription) {
        self.questions = Some(questions);
    }

    /// Stops answering queries.
    pub(super) fn give_way(&mut self) {
        self.questions = None;
    }
}

/// The next query, after a permit for its answer is reserved.
async fn question(questions: Option<&mut QuerySubscription>, answers: &mpsc::Sender<Outgoing>) -> Event {
    let Some(questions) = questions else { return std::future::pending().await };
    let Ok(place) = answers.clone().reserve_owned().await else { return std::future::pending().await };
    tokio::select! {
        question = or_wait(questions.list.recv()) => Event::List(question, place),
        question = or_wait(questions.get.recv()) => Event::Get(question, place),
        question = or_wait(questions.remove.recv()) => Event::Remove(question, place),
    }
}

/// Waits for ever if the channel is closed, so that a closed channel ends nothing else.
async fn or_wait<T>(next: impl Future<Output = Option<T>>) -> T {
    match next.await {
        Some(next) => next,
        None => std::future::pending().await,
    }
}
