//! The dispatcher: receives every message about a job and hands it to the task of that job.
//!
//! One task owns the table of jobs. It never waits for a job, a disk or the bus, so no job can delay the start of
//! another. A job that reads its messages too slowly loses some; the stream protocol tolerates this.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::answer;
use super::auth::{self, Signed};
use super::context::{self, AcceptState, Context};
use super::durable::{self, Left};
use super::job;
use super::request::{self, Decoded, Request};
use peerbus_bus::Incoming;
use peerbus_protocol::JobId;
use peerbus_protocol::control::{Control, INSTANCE_HEADER};
use peerbus_protocol::frame::OFFSET;
use peerbus_protocol::identity::Principal;
use peerbus_protocol::signature::SIGNATURE;
use peerbus_protocol::subjects::{self, Below, Verb};

/// Messages that may wait on a subscription before the dispatcher takes them.
pub(super) const WAITING: usize = 8_192;

/// Messages that may wait for one job. A caller has about 20 in flight at most.
const WAITING_MESSAGES: usize = 256;

/// Ids that may have a task besides the running jobs: jobs with an unconfirmed ending, and unknown ids. The
/// dispatcher drops further new ids; an honest caller retries.
const ATTENDED_BESIDES: usize = 4_096;

/// Answers to malformed messages that may wait for the bus at once. The dispatcher drops further ones; an honest
/// sender retries.
const ANSWERS_WAITING: usize = 1_024;

/// The answer to a control message that cannot be decoded.
const BAD_REQUEST: (&str, u16) = ("bad_request", 400);

/// A message to one job.
#[derive(Debug)]
pub(super) enum Message {
    /// Start the job, or attach to it if it already runs.
    Request(Box<Request>),
    /// A control message about the job.
    Word {
        /// The control message.
        steer: Control,
        /// The sender's inbox.
        from: String,
        /// The sender. Anyone may give credit, signed or not.
        principal: Principal,
        /// Whether the message names another instance.
        for_another: bool,
        /// Whether the message is proven to be no replay. Only for credit may this be unknown.
        fresh: bool,
    },
    /// The inbox of the caller, or of the viewer with this number, does not exist (any more).
    CallerGone(Option<u64>),
}

/// Hands messages to jobs.
pub(super) struct Dispatcher {
    context: Arc<Context>,
    jobs: HashMap<JobId, mpsc::Sender<Message>>,
    gone: mpsc::UnboundedSender<Gone>,
    left: mpsc::UnboundedReceiver<Gone>,
    answers: Arc<Semaphore>,
}

/// The id of a job task that ended, and the messages it did not handle.
type Gone = (JobId, mpsc::Receiver<Message>);

impl Dispatcher {
    /// Creates the dispatcher and adopts the durable jobs of the previous daemon.
    pub(super) fn open(context: &Arc<Context>, adopted: Vec<Left>) -> Self {
        let (gone, left) = mpsc::unbounded_channel();
        let answers = Arc::new(Semaphore::new(ANSWERS_WAITING));
        let mut dispatcher = Self { context: Arc::clone(context), jobs: HashMap::new(), gone, left, answers };
        for job in adopted {
            let context = Arc::clone(context);
            let id = job.record.begun.id;
            dispatcher.attend(id, |mut messages| async move {
                durable::resume_left(context, job, &mut messages).await;
                messages
            });
        }
        dispatcher
    }

    /// Dispatches messages until the subscriptions end.
    pub(super) async fn run(
        mut self,
        starts: mpsc::Receiver<Incoming>,
        mut words: mpsc::Receiver<Incoming>,
        mut queued: mpsc::Receiver<Box<Request>>,
    ) {
        let mut starts = Some(starts);
        let mut intake = self.context.intake.subscribe();
        loop {
            tokio::select! {
                Some(message) = next(&mut starts) => self.start(message),
                Ok(()) = intake.changed() => {
                    let wanted = *intake.borrow_and_update();
                    starts = self.turn(wanted, starts).await;
                }
                Some(message) = words.recv() => self.word(message),
                // While no requests are accepted, waiting deliveries are left to the next daemon: they are
                // unconfirmed.
                Some(request) = queued.recv(), if starts.is_some() => self.hand(request.id, Message::Request(request)),
                Some((id, rest)) = self.left.recv() => self.left(id, rest),
                else => return,
            }
        }
    }

    /// Stops accepting requests once the pending ones are handled, or accepts them again. A request in flight gets
    /// no answer; its client repeats it.
    async fn turn(
        &mut self,
        wanted: AcceptState,
        starts: Option<mpsc::Receiver<Incoming>>,
    ) -> Option<mpsc::Receiver<Incoming>> {
        match (wanted, starts) {
            (AcceptState::Open, None) => {
                let subject = subjects::exec(self.context.peer());
                Some(self.context.bus.subscribe(&subject, Some(subjects::EXEC_QUEUE), WAITING).await)
            }
            (AcceptState::Closing, Some(mut starts)) => {
                starts.close();
                while let Some(message) = starts.recv().await {
                    self.start(message);
                }
                self.context.intake.send_replace(AcceptState::Closed);
                None
            }
            (_, starts) => starts,
        }
    }

    fn start(&mut self, message: Incoming) {
        match request::receive(&self.context, message) {
            Decoded::Request(request) => self.hand(request.id, Message::Request(request)),
            Decoded::Malformed(malformed) => self.aside(|context| async move {
                request::answer_malformed(&context, malformed).await;
            }),
            Decoded::Nothing => {}
        }
    }

    fn word(&mut self, message: Incoming) {
        // The signature covers the subject, so the subject must be below ours: a server may deliver anything.
        let ours = subjects::exec(self.context.peer());
        if !message.subject.strip_prefix(&ours).is_some_and(|rest| rest.starts_with('.')) {
            return tracing::warn!(
                subject = message.subject,
                "ignored a word that was said to somebody else"
            );
        }
        let (id, verb, viewer) = match subjects::parse_below(&message.subject) {
            Below::Job(id, verb) => (id, verb, None),
            Below::Viewer(id, number) => (id, Verb::Credit, Some(number)),
            // These have their own subscriptions, so that nothing here can delay them.
            Below::Ping | Below::Health | Below::Policy | Below::Audit | Below::Jobs => return,
            Below::Strange(why) => return self.object(&message, BAD_REQUEST, why),
        };
        if message.no_responders {
            if self.jobs.contains_key(&id) {
                self.hand(id, Message::CallerGone(viewer));
            }
            return;
        }
        let Some(from) = message.reply.clone().filter(|reply| subjects::is_inbox(reply)) else {
            tracing::warn!(
                subject = message.subject,
                "ignored a word about a job: its reply subject is no inbox"
            );
            return;
        };
        match Control::decode(verb, message.headers.number(OFFSET), message.payload.clone()) {
            Ok(steer) => match self.speaker(verb, &message) {
                Ok(speaker) => self.steer((id, verb), steer, from, speaker, &message),
                Err(why) => self.object(&message, answer::UNPROVEN, why),
            },
            Err(bad) => self.object(&message, BAD_REQUEST, bad.0),
        }
    }

    /// Authenticates the sender. Control messages need a known principal. Credit needs none: wrong credit shows in
    /// the totals. Only credit of a viewer that must be told to resume is signed.
    fn speaker(&self, verb: Verb, message: &Incoming) -> Result<(Principal, Option<Signed>), String> {
        if verb == Verb::Credit && message.headers.get(SIGNATURE).is_none() {
            return Ok((Principal::Anyone, None));
        }
        auth::of(&self.context, message)
    }

    fn steer(
        &mut self,
        (id, verb): (JobId, Verb),
        steer: Control,
        from: String,
        (principal, signed): (Principal, Option<Signed>),
        message: &Incoming,
    ) {
        let meant_for = match message.headers.get(INSTANCE_HEADER) {
            Some(text) => text.parse().ok(),
            None => steer.instance(),
        };
        let for_another = meant_for.is_some_and(|instance| instance != self.context.instance);
        // Only these can be answered for a job that does not run. Credit is answered only for a job that an earlier
        // daemon left.
        let answered = match verb {
            Verb::Resume | Verb::Attach | Verb::Rename | Verb::Detach | Verb::Cancel | Verb::Result => true,
            Verb::Credit => for_another,
            Verb::Stdin | Verb::Signal | Verb::Resize | Verb::Release => false,
        };
        if !answered && !self.jobs.contains_key(&id) {
            return;
        }
        let text = signed.as_ref().and_then(Signed::challenge);
        let fresh = !auth::members_sign(&self.context) || self.context.freshness.holds(id, &from, verb, text);
        match verb {
            _ if fresh => {}
            // Credit controls nothing by itself; the job's task checks it where it does.
            Verb::Credit => {}
            // The credit of a client that continues an ended attachment tells it that the attachment has ended.
            Verb::Stdin | Verb::Resize => {
                return tracing::debug!(job = %id, %verb, "ignored a word of an attachment that has ended");
            }
            _ => {
                let challenge = self.context.freshness.challenge(id, &from);
                return self.aside(|context| async move {
                    answer::challenged(&context, &from, id, challenge).await;
                });
            }
        }
        self.hand(id, Message::Word { steer, from, principal, for_another, fresh });
    }

    /// Hands a message to the task of its job, or starts a task for an id that has none.
    fn hand(&mut self, id: JobId, message: Message) {
        let message = match self.jobs.get(&id) {
            None => message,
            Some(job) => match job.try_send(message) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Closed(message)) => message,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    tracing::debug!(job = %id, "a message to a job was dropped: too many are waiting");
                    return;
                }
            },
        };
        let settings = &self.context.settings;
        if self.jobs.len() >= settings.max_jobs + settings.jobs.most + ATTENDED_BESIDES {
            tracing::debug!(job = %id, "a message about a new id was dropped: too many are attended to");
            return;
        }
        let context = Arc::clone(&self.context);
        self.attend(id, |mut messages| async move {
            context::attending(
                &context.attended,
                job::attend(Arc::clone(&context), id, message, &mut messages),
            )
            .await;
            messages
        });
    }

    /// Starts a task for an id. The task returns the messages it did not handle.
    fn attend<A: Future<Output = mpsc::Receiver<Message>> + Send + 'static>(
        &mut self,
        id: JobId,
        attendant: impl FnOnce(mpsc::Receiver<Message>) -> A,
    ) {
        let (to, messages) = mpsc::channel(WAITING_MESSAGES);
        self.jobs.insert(id, to);
        let (attended, gone) = (attendant(messages), self.gone.clone());
        tokio::spawn(async move {
            let mut messages = attended.await;
            messages.close();
            // The dispatcher may be gone when the daemon stops.
            let _ = gone.send((id, messages));
        });
    }

    fn left(&mut self, id: JobId, mut rest: mpsc::Receiver<Message>) {
        // A newer task may already handle this id.
        if self.jobs.get(&id).is_some_and(mpsc::Sender::is_closed) {
            self.jobs.remove(&id);
        }
        while let Ok(message) = rest.try_recv() {
            self.hand(id, message);
        }
    }

    fn object(&self, message: &Incoming, (word, code): (&'static str, u16), why: String) {
        tracing::warn!(subject = message.subject, why, "ignored a message");
        if let Some(reply) = message.reply.clone().filter(|reply| subjects::is_inbox(reply)) {
            self.aside(|context| async move {
                answer::cannot(&context, &reply, word, code, &why).await;
            });
        }
    }

    /// Sends an answer in its own task, because it may have to wait for the bus.
    fn aside<A: Future<Output = ()> + Send + 'static>(&self, answer: impl FnOnce(Arc<Context>) -> A) {
        let Ok(place) = Arc::clone(&self.answers).try_acquire_owned() else {
            tracing::debug!("an answer was not given: too many wait for the bus");
            return;
        };
        let answer = answer(Arc::clone(&self.context));
        tokio::spawn(async move {
            answer.await;
            drop(place);
        });
    }
}

/// The next request, if requests are accepted.
async fn next(starts: &mut Option<mpsc::Receiver<Incoming>>) -> Option<Incoming> {
    match starts {
        Some(starts) => starts.recv().await,
        None => std::future::pending().await,
    }
}
