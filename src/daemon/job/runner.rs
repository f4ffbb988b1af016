//! Runs one job in an event loop. The loop owns all state of the job.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::admission::Admitted;
use super::lease::Lease;
use super::output::Output;
use super::stdin::Stdin;
use crate::context::{ActiveGuard, Context, JobSlot, ShutdownPhase};
use crate::dispatcher::Message;
use crate::journal::Entry;
use crate::nonces::Attachment;
use crate::request::Request;
use crate::request_summary::RequestSummary;
use crate::running_jobs::JobGuard;
use peerbus_bus::ConnectionState;
use peerbus_process::{
    self as process, CommandLifecycle, Exit, OutputReader, Process, StartError, Started, joined,
};
use peerbus_protocol::exec::{JobResult, OutputHolder};
use peerbus_protocol::frame::{Accepted, Alive, FrameKind, JobState, StreamKind};
use peerbus_protocol::{Ending, decode};

/// All events of a running job.
enum Event {
    Message(Option<Message>),
    Started(Result<Begin, tokio::task::JoinError>),
    Output(StreamKind, Bytes),
    Exited(Exit),
    Progressed,
    MaySend,
    StdinWritable,
    Link(ConnectionState),
    Leaving(ShutdownPhase),
    Clock,
}

/// The journal record, and whether the process started.
type Begin = (Entry, Result<Started, StartError>);

/// A running job.
pub(super) struct Runner {
    pub(super) context: Arc<Context>,
    pub(super) request: Request,
    pub(super) asked: RequestSummary,
    pub(super) sink: Output,
    pub(super) stdin: Stdin,
    pub(super) timing: Lease,
    pub(super) signals: u64,
    /// Signals from other clients: their inbox, the signal's number, and the error if it failed.
    pub(super) strangers: VecDeque<(String, u64, Option<String>)>,
    pub(super) lifecycle: CommandLifecycle,
    /// The processes whose output the job waits for after its command has ended, as last reported.
    pub(super) waiting: Option<Vec<OutputHolder>>,
    pub(super) over: bool,
    /// Whether the audit log names the client that stopped the job.
    pub(super) stop_told: bool,
    /// The result, once the job is over.
    pub(super) ended: Option<JobResult>,
    /// Whether this task may end.
    pub(super) done: bool,
    pub(super) entry: Option<Entry>,
    pub(super) place: Option<JobSlot>,
    /// Keeps the job listed as running until the journal has its ending.
    pub(super) enrolled: Option<JobGuard>,
    /// The nonce that the caller's control messages are signed over, if members sign.
    attachment: Option<Attachment>,
    /// Counts this job until its caller has confirmed the ending.
    _untold: ActiveGuard,
}

/// Starts the job and runs it to its end.
pub(super) async fn run(context: Arc<Context>, admitted: Admitted, messages: &mut mpsc::Receiver<Message>) {
    let Admitted { request, commands, job_scope, entry, place, asked, enrolled, held, .. } = admitted;
    let spec = commands.spec;
    let mut start = Some(tokio::task::spawn_blocking({
        let context = Arc::clone(&context);
        move || begin(&context, &spec, &job_scope, entry)
    }));
    let mut job = Runner::new(&context, request, place, asked, enrolled);
    let mut output_reader = OutputReader::none();
    let mut process: Option<Process> = None;
    let (mut link, mut leaving) = (context.bus.link(), context.leaving.subscribe());
    let mut known = *link.borrow_and_update();
    for message in held {
        job.on_message(message).await;
    }
    while !job.done {
        let (room, deadline) = (job.sink.room(), job.deadline());
        let happening = tokio::select! {
            message = messages.recv() => Event::Message(message),
            begun = joined(&mut start) => Event::Started(begun),
            (stream, bytes) = output_reader.next(room), if room > 0 => Event::Output(stream, bytes),
            exit = exited(&mut process), if !job.lifecycle.has_exited() => Event::Exited(exit),
            () = job.lifecycle.progressed() => Event::Progressed,
            () = job.sink.may_send() => Event::MaySend,
            () = job.stdin.writable() => Event::StdinWritable,
            Ok(()) = link.changed() => Event::Link(*link.borrow_and_update()),
            stage = moved(&mut leaving) => Event::Leaving(stage),
            () = tokio::time::sleep_until(deadline.into()) => Event::Clock,
        };
        match happening {
            Event::Message(Some(message)) => job.on_message(message).await,
            Event::Message(None) => break,
            Event::Started(begun) => {
                if let Some(started) = job.on_started(begun) {
                    output_reader = OutputReader::new(started.stdout, started.stderr);
                    process = Some(started.process);
                }
            }
            Event::Output(stream, bytes) => job.on_output(stream, bytes),
            Event::Exited(exit) => job.on_exit(exit),
            Event::Progressed => {}
            Event::MaySend => job.sink.send_one(context.bus.max_payload()),
            Event::StdinWritable => job.on_stdin_writable(),
            Event::Link(now) => {
                // Messages that arrived since the link went down came over the new link. They may overtake the
                // event that reports it.
                if !now.up || (known.up && now.generation != known.generation) {
                    job.mute();
                }
                known = now;
            }
            Event::Leaving(stage) => job.on_leaving(stage),
            Event::Clock => job.on_clock(Instant::now()),
        }
        job.show();
        if !job.over && job.lifecycle.is_over(Instant::now(), &output_reader, job.sink.room()) {
            job.finish(std::mem::replace(&mut output_reader, OutputReader::none())).await;
        }
        job.tell_waiting();
    }
}

/// Starts the process and journals the start. Blocking.
fn begin(context: &Context, spec: &process::Spec, job_scope: &process::JobScope, mut entry: Entry) -> Begin {
    let started = process::start(spec, job_scope, &context.containment_manager);
    if let Ok(started) = &started
        && let Err(error) = entry.started(started.process.identity())
    {
        // The journal already has the job scope, which is enough to find the process.
        tracing::error!(job = %spec.job, %error, "writing the start to the journal");
    }
    (entry, started)
}

async fn exited(process: &mut Option<Process>) -> Exit {
    match process {
        Some(process) => process.exited().await,
        None => std::future::pending().await,
    }
}

async fn moved(leaving: &mut watch::Receiver<ShutdownPhase>) -> ShutdownPhase {
    match leaving.changed().await {
        Ok(()) => *leaving.borrow_and_update(),
        Err(_) => std::future::pending().await,
    }
}

impl Runner {
    fn new(
        context: &Arc<Context>,
        request: Request,
        place: JobSlot,
        asked: RequestSummary,
        enrolled: JobGuard,
    ) -> Self {
        let now = Instant::now();
        let mut job = Self {
            sink: match request.exec.stream {
                Some(stream) => Output::stream(context, request.caller.clone(), request.id, stream.window),
                None => Output::plain(context, request.queued.is_none().then(|| request.caller.clone())),
            },
            stdin: if request.exec.stdin { Stdin::expected() } else { Stdin::closed() },
            timing: Lease::new(now, context.settings.caller_grace),
            lifecycle: CommandLifecycle::new(request.id, request.exec.timeout_ms.map(Duration::from_millis))
                .without_waiting(request.exec.no_wait),
            waiting: None,
            context: Arc::clone(context),
            attachment: request.exec.stream.and_then(|_| context.attach(request.id, &request.caller)),
            request,
            asked,
            signals: 0,
            strangers: VecDeque::new(),
            over: false,
            stop_told: false,
            ended: None,
            done: false,
            entry: None,
            place: Some(place),
            enrolled: Some(enrolled),
            _untold: context.untold.enter(),
        };
        job.sink.control(FrameKind::Accepted, job.accepted());
        if job.request.exec.stdin {
            job.tell_want();
        }
        tracing::debug!(job = %job.request.id, caller = job.request.caller, command = job.asked.command(), "accepted");
        job
    }

    /// Publishes the job's totals and viewers for job listings.
    fn show(&self) {
        let Some(enrolled) = &self.enrolled else { return };
        enrolled.set_totals(self.sink.totals());
        enrolled.set_viewers(self.sink.viewers());
    }

    /// The current `accepted` frame, which starts an epoch.
    pub(super) fn accepted(&self) -> Vec<u8> {
        let state = match (self.lifecycle.has_tree(), self.over) {
            (_, true) => JobState::Ended,
            (false, false) => JobState::Starting,
            (true, false) => JobState::Running,
        };
        let (stdin_received, signals) = (self.stdin.received(), self.signals);
        let instance = self.context.instance;
        let nonce = self.attachment.as_ref().map(|attachment| attachment.nonce().to_owned());
        decode::to_json(&Accepted { state, stdin_received, signals, nonce, ..Accepted::ended(instance) })
    }

    pub(super) fn tell_want(&mut self) {
        let want = self.stdin.want();
        self.sink.control(FrameKind::Want, decode::to_json(&want));
    }

    fn on_started(&mut self, begun: Result<Begin, tokio::task::JoinError>) -> Option<Started> {
        let started = match begun {
            Ok((entry, started)) => {
                self.entry = Some(entry);
                started
            }
            // The record stays open and the next daemon closes it: nobody knows what ran.
            Err(panic) => {
                tracing::error!(job = %self.request.id, %panic, "starting a job");
                self.fail(Ending::Unknown { why: format!("its start failed inside the daemon: {panic}") });
                return None;
            }
        };
        match started {
            Ok(mut started) => {
                self.lifecycle.started(&started.process);
                if let Some(pipe) = started.stdin.take() {
                    self.stdin.connect(pipe);
                }
                Some(started)
            }
            Err(error) => {
                self.fail(error.ending());
                None
            }
        }
    }

    /// Ends the job before anything ran.
    fn fail(&mut self, ending: Ending) {
        self.lifecycle.fail(ending);
        self.stdin.close();
    }

    fn on_output(&mut self, stream: StreamKind, bytes: Bytes) {
        self.lifecycle.read(stream, &bytes);
        self.sink.push(stream, bytes);
    }

    fn on_stdin_writable(&mut self) {
        self.stdin.write();
        if self.stdin.want_is_due() {
            self.tell_want();
        }
    }

    fn on_exit(&mut self, exit: Exit) {
        self.lifecycle.exited(Instant::now(), exit);
        if self.request.exec.stdin {
            self.stdin.close();
            self.tell_want();
        }
    }

    fn on_leaving(&mut self, stage: ShutdownPhase) {
        if stage == ShutdownPhase::StoppingJobs {
            self.lifecycle.stop(Ending::Cancelled { why: "daemon stopping".to_owned() });
        }
    }

    /// Sends nothing until the caller's next message.
    fn mute(&mut self) {
        if let Some(stream) = self.sink.as_stream() {
            stream.muted = true;
        }
    }

    fn deadline(&self) -> Instant {
        let streaming = matches!(self.sink, Output::Stream(_));
        let told = self.timing.deadline(Instant::now(), streaming, self.over);
        self.lifecycle.deadline(self.sink.room()).map_or(told, |deadline| deadline.min(told))
    }

    fn on_clock(&mut self, now: Instant) {
        self.lifecycle.on_clock(now);
        if !matches!(self.sink, Output::Stream(_)) {
            return;
        }
        if self.timing.alive_is_due(now) && !self.over {
            self.tell_alive();
        }
        if self.timing.caller_is_lost(now) {
            self.give_the_caller_up();
        }
    }

    pub(super) fn tell_alive(&mut self) {
        let (totals, stdin_received) = (self.sink.totals(), self.stdin.received());
        let alive = Alive { out: totals.out, err: totals.err, stdin_received, waiting: self.waiting.clone() };
        self.sink.control(FrameKind::Alive, decode::to_json(&alive));
    }

    /// Reports a change of the processes whose output the job waits for.
    fn tell_waiting(&mut self) {
        let waiting = self.lifecycle.waits_for(Instant::now());
        if waiting != self.waiting {
            self.waiting = waiting;
            self.tell_alive();
        }
    }

    /// Stops the job and drops its output: its caller did not come back in time.
    fn give_the_caller_up(&mut self) {
        if let Some(stream) = self.sink.as_stream() {
            stream.discarding = true;
            stream.send_buffer.give_up();
        }
        if self.over {
            self.done = true;
            return;
        }
        let grace = self.timing.grace();
        tracing::warn!(job = %self.request.id, command = self.asked.command(), ?grace, "its caller vanished and did not come back");
        self.lifecycle.stop(Ending::Cancelled { why: "its caller vanished".to_owned() });
    }
}
