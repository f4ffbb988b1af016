//! Runs one durable job in an event loop. The loop owns all of the daemon's state of the job.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;

use super::progress::Progress;
use super::rename_detach::DetachedViewers;
use super::shim_handle::{Begin, Known, ShimEvent, ShimHandle};
use super::stdin_sources::StdinSources;
use super::viewer::ViewerCommand;
use super::viewers::{EndedViewer, ResponderRank, Viewers};
use super::watchdog::Watchdog;
use crate::answer;
use crate::context::{self, Context};
use crate::dispatcher::Message;
use crate::job::terminal_env;
use crate::job::{Admitted, Commands};
use crate::journal::{Entry, Record, StartRecord};
use crate::request_summary::RequestSummary;
use crate::running_jobs::JobGuard;
use peerbus_protocol::attach::{AttachRequest, Within};
use peerbus_protocol::exec::{JobResult, OutputHolder};
use peerbus_protocol::frame::{FrameKind, Signalled};
use peerbus_protocol::identity::Principal;
use peerbus_protocol::task::StepProgress;
use peerbus_protocol::tty::TtySize;
use peerbus_protocol::{Ending, JobId, decode};
use peerbus_shim::link::SpawnError;
use peerbus_shim::messages::{LogExtent, TaskSpec, VERSION};
use peerbus_shim::{FromShim, JobDir, JobSpec, ShimConnection, ToShim};

/// All events of a durable job.
enum Event {
    Message(Option<Message>),
    Shim(Box<ShimEvent>),
    Left(EndedViewer),
    ShimIsDue,
}

/// A durable job.
pub(super) struct DurableJob {
    pub(super) context: Arc<Context>,
    pub(super) id: JobId,
    pub(super) begun: StartRecord,
    /// The principal that requested the job.
    pub(super) owner: Principal,
    pub(super) asked: RequestSummary,
    pub(super) place: JobDir,
    pub(super) shim: ShimHandle,
    /// Whether the command certainly runs or has run.
    pub(super) runs: bool,
    /// Whether an earlier daemon journalled the start.
    pub(super) was_started: bool,
    pub(super) entry: Option<Entry>,
    pub(super) seat: Option<context::JobSlot>,
    /// Whether the audit log already has the ending.
    pub(super) told: bool,
    /// The job's entry in the list of running jobs.
    pub(super) enrolled: Option<JobGuard>,
    /// The ending to record, once a client has stopped the job.
    pub(super) stopping: Option<Ending>,
    /// Kills a shim that does not answer after that.
    pub(super) watchdog: Watchdog,
    /// How it ended, once it is over.
    pub(super) ended: Option<Arc<JobResult>>,
    pub(super) news: watch::Sender<Progress>,
    pub(super) viewers: Viewers,
    pub(super) departed: DetachedViewers,
    /// The writers that the shim remembers.
    pub(super) writers: StdinSources,
    pub(super) tty: Option<TtySize>,
    /// The terminal type in use, if this machine does not know the requested one.
    pub(super) replaced_term: Option<String>,
    /// The combined offset up to which the shim lets the command write.
    paced: Option<u64>,
    /// Messages to answer once the job runs.
    pub(super) waiting: Vec<Message>,
    /// Clients waiting for a terminal snapshot, by request number.
    pub(super) screens: HashMap<u64, PendingSnapshot>,
    pub(super) screens_asked: u64,
    /// The writer that the shim was last told is the responder.
    pub(super) answerer: Option<String>,
    /// Counter of writer activity.
    pub(super) activity: u64,
    /// Whether the request was answered once. A later copy may be a replay.
    pub(super) caller_came: bool,
}

/// A client waiting for a terminal snapshot.
pub(super) struct PendingSnapshot {
    pub(super) inbox: String,
    pub(super) attach: AttachRequest,
    pub(super) seat: ResponderRank,
}

/// How far a command may write ahead of its terminal's writers, in bytes.
const AHEAD: u64 = 256 * 1024;

/// Starts an admitted job and runs it to its end.
pub(crate) async fn run(context: Arc<Context>, admitted: Admitted, messages: &mut mpsc::Receiver<Message>) {
    let Admitted { request, commands, job_scope, entry, begun, place: seat, asked, enrolled, held } =
        admitted;
    let Commands { spec, timeout_ms, then } = commands;
    let place = JobDir::of(&context.settings.state_dir, request.id);
    let replaced_term = terminal_env::replaced_term(&request.exec, &spec.env);
    let order = JobSpec {
        spec,
        job_scope,
        timeout_ms,
        tty: request.exec.tty.as_ref().map(|tty| tty.size()),
        name: request.exec.name.clone(),
        owner: Some(request.caller.clone()),
        task: request.exec.task.as_ref().map(|task| TaskSpec {
            name: task.name.clone(),
            peer: context.peer().clone(),
            of: task.count(),
            then,
        }),
        no_wait: request.exec.no_wait,
        log_limit: context.settings.jobs.log_limit,
    };
    let mut job = DurableJob::new(&context, begun, asked, place.clone());
    job.shim = ShimHandle::start(&context, place, order, entry);
    job.replaced_term = replaced_term;
    (job.seat, job.enrolled) = (Some(seat), Some(enrolled));
    job.on_message(Message::Request(Box::new(request))).await;
    for message in held {
        job.on_message(message).await;
    }
    job.live(messages).await;
}

impl DurableJob {
    pub(super) fn new(
        context: &Arc<Context>,
        begun: StartRecord,
        asked: RequestSummary,
        place: JobDir,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            id: begun.id,
            owner: begun.owner(),
            begun,
            asked,
            place,
            shim: ShimHandle::Gone,
            runs: false,
            was_started: false,
            entry: None,
            seat: None,
            told: false,
            enrolled: None,
            stopping: None,
            watchdog: Watchdog::default(),
            ended: None,
            news: watch::Sender::new(Progress::default()),
            viewers: Viewers::new(),
            departed: DetachedViewers::default(),
            writers: StdinSources::default(),
            tty: None,
            replaced_term: None,
            paced: None,
            waiting: Vec::new(),
            screens: HashMap::new(),
            screens_asked: 0,
            answerer: None,
            activity: 0,
            caller_came: false,
        }
    }

    /// A job that an earlier daemon started.
    pub(super) fn of(context: &Arc<Context>, record: &Record) -> Self {
        let asked = RequestSummary::recorded(&record.begun);
        let place = JobDir::of(&context.settings.state_dir, record.begun.id);
        let was_started = record.process.is_some();
        Self { was_started, caller_came: true, ..Self::new(context, record.begun.clone(), asked, place) }
    }

    /// Runs until the job has ended and no viewer is left.
    pub(super) async fn live(mut self, messages: &mut mpsc::Receiver<Message>) {
        while !self.is_over() {
            if let Some(enrolled) = &self.enrolled {
                enrolled.set_viewers(self.viewers.count());
                enrolled.set_watched_from(self.watched_from());
            }
            let happening = tokio::select! {
                message = messages.recv() => Event::Message(message),
                doing = self.shim.next() => Event::Shim(Box::new(doing)),
                gone = self.viewers.one_leaves() => Event::Left(gone),
                () = self.watchdog.due() => Event::ShimIsDue,
            };
            match happening {
                Event::Message(Some(message)) => self.on_message(message).await,
                // The daemon shuts down; the job continues.
                Event::Message(None) => return,
                Event::Shim(doing) => self.on_shim(*doing).await,
                Event::Left((_, number)) => self.viewers.drop_number(number),
                Event::ShimIsDue => {
                    // Any reply to this proves that the shim is alive. While the shim is being looked for, that
                    // search probes it.
                    self.shim.say(ToShim::Hello { v: VERSION, instance: Some(self.context.instance) });
                    self.watchdog.look(&self.place).await;
                }
            }
            self.tell_pace();
            for writer in self.writers.too_many(|inbox| self.is_needed(inbox)) {
                self.forget_writer(&writer);
            }
            self.tell_asked();
        }
    }

    /// The jobs from within which clients follow this job or are about to.
    pub(super) fn watched_from(&self) -> Vec<Within> {
        let about_to = self.screens.values().filter_map(|coming| coming.attach.within.first());
        self.viewers.within().chain(about_to).cloned().collect()
    }

    /// Whether a writer is attached or is the caller, which owns the command's input.
    fn is_needed(&self, inbox: &str) -> bool {
        inbox == self.begun.caller || self.viewers.epoch_of(inbox).is_some()
    }

    /// Drops a writer that will send nothing more.
    pub(super) fn forget_writer(&mut self, inbox: &str) {
        self.writers.forget(inbox);
        self.shim.say(ToShim::Forget { from: inbox.to_owned() });
    }

    fn is_over(&self) -> bool {
        self.ended.is_some() && self.viewers.are_none() && self.waiting.is_empty()
    }

    async fn on_shim(&mut self, doing: ShimEvent) {
        match doing {
            ShimEvent::Started(begun) => self.on_started(begun).await,
            ShimEvent::Said(word) => self.on_said(word).await,
            ShimEvent::Lost => self.seek_shim(),
            ShimEvent::Found(Ok(known)) => self.on_found(known).await,
            ShimEvent::Found(Err(panic)) => {
                tracing::error!(job = %self.id, %panic, "looking for the shim of a job");
                self.seek_shim();
            }
        }
    }

    async fn on_started(&mut self, begun: Result<Begin, JoinError>) {
        let (entry, started) = match begun {
            Ok(begun) => begun,
            // The record stays open, so the next daemon determines the outcome as after a crash.
            Err(panic) => {
                tracing::error!(job = %self.id, %panic, "starting a durable job");
                self.seek_shim();
                return;
            }
        };
        self.entry = Some(entry);
        match started {
            Ok((link, _)) => self.connect(link).await,
            Err(SpawnError::Failed(error)) => self.not_started(error).await,
            Err(SpawnError::Died(why)) => {
                tracing::error!(job = %self.id, why, "the shim of a job died while it started the command");
                self.seek_shim();
            }
            Err(SpawnError::Unheard(why)) => {
                tracing::warn!(job = %self.id, why, "a durable job runs, and its shim is looked for");
                self.seek_shim();
            }
        }
    }

    pub(super) fn seek_shim(&mut self) {
        self.shim = ShimHandle::seek(self.place.clone(), self.begun.job_scope.clone());
    }

    async fn on_found(&mut self, known: Known) {
        match known {
            Known::Alive(link) => self.connect(*link).await,
            known => self.conclude(known).await,
        }
    }

    /// Takes a new shim connection and the state that the shim reports.
    pub(super) async fn connect(&mut self, link: ShimConnection) {
        self.watchdog.heard();
        let hello = link.hello().clone();
        self.shim = ShimHandle::Here(Box::new(link));
        self.tty = hello.tty;
        // Each connection starts without a write limit.
        self.paced = None;
        self.take_turns(hello.asked.unwrap_or_default());
        self.news.send_modify(|news| news.sizes = hello.sizes.into());
        self.reached(hello.log);
        self.began_step(hello.step);
        self.waits_for(hello.waiting);
        self.is_held_up(hello.trouble.clone());
        for writer in &hello.writers {
            self.tell_want(&writer.from, decode::to_json(&writer.want));
        }
        self.writers.are(hello.writers);
        if let Some(ending) = self.stopping.clone() {
            self.shim.say(ToShim::Stop { ending });
        }
        if hello.name != self.begun.name {
            self.tell_name();
        }
        for ask in self.screens.keys().copied() {
            self.shim.say(ToShim::Screen { ask });
        }
        self.runs = true;
        context::outlives_this_daemon();
        self.let_in().await;
    }

    /// Answers the messages that waited for the start or the end.
    pub(super) async fn let_in(&mut self) {
        for message in std::mem::take(&mut self.waiting) {
            Box::pin(self.on_message(message)).await;
        }
    }

    fn began_step(&self, step: Option<StepProgress>) {
        if let (Some(step), Some(enrolled)) = (step, &self.enrolled) {
            enrolled.set_step(step);
        }
    }

    /// Updates the processes whose output the job waits for after its command has ended. `None` if there are none.
    fn waits_for(&self, holders: Option<Vec<OutputHolder>>) {
        self.news.send_if_modified(|news| {
            let is_new = news.waiting != holders;
            news.waiting = holders;
            is_new
        });
    }

    /// Records why the shim cannot write, or that it can again.
    fn is_held_up(&self, why: Option<String>) {
        if let Some(enrolled) = &self.enrolled {
            enrolled.set_trouble(why);
        }
    }

    fn reached(&self, reach: LogExtent) {
        let totals = reach.totals();
        if let Some(enrolled) = &self.enrolled {
            enrolled.set_totals(totals);
            enrolled.set_first(reach.first());
        }
        self.news.send_if_modified(|news| {
            let further = totals.sum() > news.totals.sum();
            if further {
                news.totals = totals;
            }
            further
        });
    }

    async fn on_said(&mut self, word: FromShim) {
        self.watchdog.heard();
        match word {
            FromShim::Log(reach) => self.reached(reach),
            FromShim::Want { from, want } => {
                self.tell_want(&from, decode::to_json(&want));
                // Ignores a late reply about a forgotten writer.
                if self.is_needed(&from) || self.writers.want(&from).is_some() {
                    self.writers.wants(from, want);
                }
            }
            FromShim::Signalled { from, n, error } => {
                self.writers.signalled(&from, n);
                self.tell_applied(FrameKind::Signalled, &from, Signalled { n, error }).await;
            }
            FromShim::Resized { from, n, error } => {
                if self.writers.want(&from).is_none() && error.is_none() {
                    self.writers.wants(from.clone(), self.grant(&from));
                }
                self.tell_applied(FrameKind::Resized, &from, Signalled { n, error }).await;
            }
            FromShim::Asked(turn) => self.on_turn(turn),
            FromShim::Sized(change) => self.on_size(change),
            FromShim::Screen(screen) => self.on_screen(screen).await,
            FromShim::Step(step) => self.began_step(Some(step)),
            FromShim::Waiting { on } => self.waits_for(on),
            FromShim::Trouble { why } => {
                match &why {
                    Some(why) => tracing::warn!(job = %self.id, why, "a durable job is held up"),
                    None => tracing::info!(job = %self.id, "it is no longer held up"),
                }
                self.is_held_up(why);
            }
            FromShim::Ended(ended) => self.conclude(Known::Ended(ended)).await,
            FromShim::Hello(_) | FromShim::Started(_) | FromShim::Failed(_) => {}
        }
    }

    /// Limits how far the command may write ahead of its terminal's writers, so that their input is echoed soon.
    /// There is no limit without a terminal or without writers.
    fn tell_pace(&mut self) {
        let room = self.viewers.room().filter(|_| self.tty.is_some() && self.ended.is_none());
        let until = room.map(|room| room.saturating_add(AHEAD));
        if self.runs && until != self.paced {
            self.paced = until;
            self.shim.say(ToShim::Pace { until });
        }
    }

    fn tell_want(&mut self, writer: &str, want: Vec<u8>) {
        self.viewers.say(writer, ViewerCommand::Control(FrameKind::Want, want.into()));
    }

    /// The sender of a signal need not be a viewer.
    async fn tell_applied(&mut self, kind: FrameKind, writer: &str, applied: Signalled) {
        let frame = ViewerCommand::Control(kind, decode::to_json(&applied).into());
        if !self.viewers.say(writer, frame) && kind == FrameKind::Signalled {
            answer::signalled(&self.context, writer, &applied).await;
        }
    }
}
