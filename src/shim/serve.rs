//! The event loop of one shim: one owner, one loop, one enum of events.
//!
//! ```text
//!   order ──► Starting ──► Running ──► Ended ──► outcome on disk: notify, exit
//!                └ start failed: outcome on disk, notify, exit
//! ```
//! In a task, each step goes through Starting and Running; only the last one reaches Ended.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::UnixListener;
use tokio::net::unix::pipe::Sender;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::atomic_file::{self, VersionedFile};
use super::connection::{CurrentConnection, NewConnection, heard, may_say, receive};
use super::job_dir::JobDir;
use super::messages::{FromShim, JobEnd, JobSpec, ShimInfo, ToShim, VERSION};
use super::output::Output;
use super::program::{Inherited, listen, stop_listening};
use super::stdin_mux::StdinMux;
use super::steps::Steps;
use super::terminal::JobTerminal;
use peerbus_process::{
    CommandLifecycle, CommandOutcome, ContainmentManager, Exit, JobScope, OutputReader, Process, ProcessKey,
    Spec, StartError, Started, StartedInTerminal, Stdin, Terminal, joined, start, start_in_terminal,
};
use peerbus_protocol::Ending;
use peerbus_protocol::ending::sentence;
use peerbus_protocol::exec::OutputHolder;
use peerbus_protocol::frame::StreamKind;
use peerbus_protocol::send_buffer::StreamOffsets;

/// Pause between attempts to write the outcome to a full disk.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// How long to wait until the connected daemon has read the outcome. Later daemons read the file.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// A timeout longer than any deadline here.
const FAR: Duration = Duration::from_secs(3600);

/// Queue length for new connections.
const NEWCOMERS: usize = 4;

/// All events of a shim.
enum Event {
    Started(Result<Result<RunningCommand, StartError>, tokio::task::JoinError>),
    Came(NewConnection),
    Word(Option<ToShim>),
    MaySay,
    Output(StreamKind, Bytes),
    Exited(Exit),
    Progressed,
    InputWritable,
    EndWritten(Result<io::Result<()>, tokio::task::JoinError>),
    AboutWritten,
    Clock,
}

/// One shim.
pub(super) struct Shim {
    pub(super) place: JobDir,
    pub(super) about: ShimInfo,
    /// The file with `about`.
    pub(super) about_file: VersionedFile<ShimInfo>,
    pub(super) lifecycle: CommandLifecycle,
    /// The last reported holders of the output.
    pub(super) waiting: Option<Vec<OutputHolder>>,
    pub(super) inputs: StdinMux,
    pub(super) output: Output,
    pub(super) terminal: Option<JobTerminal>,
    pub(super) conversation: CurrentConnection,
    pub(super) ended: Option<JobEnd>,
    /// `Some` for a task.
    pub(super) steps: Option<Steps>,
    /// `Some` once the job is over except for final messages to the log. The value says whether a remaining
    /// process holds the output open.
    over: Option<bool>,
    /// Why the command could not be started.
    failed: Option<StartError>,
    writing: Option<JoinHandle<io::Result<()>>>,
    write_again: Option<Instant>,
    /// Whether the outcome is on disk.
    is_written: bool,
}

/// Starts the command of an order and supervises it. Holds the lock until everything is on disk.
pub(super) async fn serve(place: JobDir, order: JobSpec, inherited: Inherited) {
    let Inherited { lock, hearing, saying } = inherited;
    let mut conversation = CurrentConnection::with(hearing, saying);
    match prepare(&place, &order) {
        Ok((about, output, listener)) => {
            let (newcomers, come) = mpsc::channel(NEWCOMERS);
            let receiving = tokio::spawn(receive(listener, newcomers));
            let shim = Shim::new(place, about, output, conversation, &order);
            let drained = shim.live(order, come, receiving, lock).await;
            drained.await;
        }
        Err(error) => {
            tracing::error!(%error, "preparing to keep a job");
            // This file would claim that the command may have run.
            let _ = std::fs::remove_file(place.about_file());
            let failed = StartError::of_system(sentence(format!("preparing the shim of a job: {error}")));
            conversation.say(&FromShim::Failed(failed));
            conversation.flush(TOLD_WITHIN).await;
        }
    }
}

/// Creates everything that must exist before the command may run. Writes the shim's own description last:
/// from then on the command may have run.
fn prepare(place: &JobDir, order: &JobSpec) -> io::Result<(ShimInfo, Output, UnixListener)> {
    let output = Output::create(&place.log(), order.log_limit)?;
    let listener = listen(place)?;
    let about = ShimInfo {
        v: VERSION,
        job: order.spec.job,
        shim: ProcessKey::of_self()?,
        version: peerbus_protocol::VERSION.to_owned(),
        job_scope: order.job_scope.clone(),
        tty: order.tty,
        name: order.name.clone(),
        log_limit: order.log_limit,
        started_at: now(),
        process: None,
    };
    atomic_file::keep_name_of(place.directory())?;
    atomic_file::write(&place.about_file(), &about)?;
    Ok((about, output, listener))
}

/// A running command.
pub(super) struct RunningCommand {
    process: Process,
    stdin: Option<Sender>,
    output_reader: OutputReader,
    terminal: Option<Terminal>,
}

/// Starts a command with pipes or in its terminal. Blocking.
pub(super) fn begin(spec: &Spec, job_scope: &JobScope) -> Result<RunningCommand, StartError> {
    let containment_manager = ContainmentManager::of_one();
    if spec.tty.is_none() {
        let Started { process, stdin, stdout, stderr } = start(spec, job_scope, &containment_manager)?;
        return Ok(RunningCommand {
            process,
            stdin,
            output_reader: OutputReader::new(stdout, stderr),
            terminal: None,
        });
    }
    let StartedInTerminal { process, terminal, typed, shown } =
        start_in_terminal(spec, job_scope, &containment_manager)?;
    Ok(RunningCommand {
        process,
        stdin: Some(typed),
        output_reader: OutputReader::new(shown, None),
        terminal: Some(terminal),
    })
}

impl Shim {
    fn new(
        place: JobDir,
        about: ShimInfo,
        output: Output,
        conversation: CurrentConnection,
        order: &JobSpec,
    ) -> Self {
        Self {
            about_file: VersionedFile::at(place.about_file()),
            place,
            about,
            lifecycle: CommandLifecycle::new(order.spec.job, order.timeout_ms.map(Duration::from_millis))
                .without_waiting(order.no_wait),
            waiting: None,
            inputs: match (order.tty, order.spec.stdin) {
                (Some(_), _) => StdinMux::of_terminal(order.owner.as_deref()),
                (None, Stdin::Pipe) => StdinMux::expected(order.owner.as_deref()),
                (None, Stdin::Null) => StdinMux::closed(),
            },
            output,
            terminal: None,
            conversation,
            ended: None,
            steps: Steps::of(order),
            over: None,
            failed: None,
            writing: None,
            write_again: None,
            is_written: false,
        }
    }

    /// Runs until the lock is released. Returns the output reader that remaining processes may still need.
    async fn live(
        mut self,
        order: JobSpec,
        mut come: mpsc::Receiver<NewConnection>,
        receiving: JoinHandle<()>,
        lock: File,
    ) -> impl Future<Output = ()> {
        let spec = Spec { tty: order.tty, ..order.spec };
        self.announce(&spec);
        let mut start = Some(tokio::task::spawn_blocking(move || begin(&spec, &order.job_scope)));
        let mut output_reader = OutputReader::none();
        let mut process: Option<Process> = None;
        let (mut draining, mut output_open) = (Vec::new(), false);
        while !self.is_written {
            // Keep other tasks running: they accept connections and notice the command's exit.
            tokio::task::coop::consume_budget().await;
            let (room, deadline) = (self.output.room(), self.deadline());
            let happening = tokio::select! {
                begun = joined(&mut start) => Event::Started(begun),
                Some(newcomer) = come.recv() => Event::Came(newcomer),
                word = heard(&mut self.conversation.hearing) => Event::Word(word),
                () = may_say(&self.conversation.saying) => Event::MaySay,
                (stream, bytes) = output_reader.next(room), if room > 0 => Event::Output(stream, bytes),
                exit = exited(&mut process), if !self.lifecycle.has_exited() => Event::Exited(exit),
                () = self.lifecycle.progressed() => Event::Progressed,
                () = self.inputs.writable() => Event::InputWritable,
                written = joined(&mut self.writing) => Event::EndWritten(written),
                () = self.about_file.written() => Event::AboutWritten,
                () = tokio::time::sleep_until(deadline.into()) => Event::Clock,
            };
            match happening {
                Event::Started(begun) => {
                    if let Some(begun) = self.on_started(begun) {
                        output_reader = begun.output_reader;
                        process = Some(begun.process);
                    }
                }
                Event::Came(newcomer) => self.on_newcomer(newcomer),
                Event::Word(Some(word)) => self.on_word(word),
                Event::Word(None) => {
                    self.output.pace(None);
                    self.conversation.give_up();
                }
                Event::MaySay => self.conversation.write(),
                Event::Output(stream, bytes) => {
                    if let Some(terminal) = &mut self.terminal {
                        terminal.show(&bytes);
                    }
                    if let Some(steps) = &mut self.steps {
                        steps.read(stream, &bytes);
                    }
                    self.take(stream, bytes);
                }
                Event::Exited(exit) => self.on_exit(exit),
                Event::Progressed | Event::AboutWritten => {}
                Event::InputWritable => self.on_input_writable(),
                Event::EndWritten(written) => self.on_end_written(written),
                Event::Clock => self.on_clock(Instant::now()),
            }
            self.tell_news();
            let now = Instant::now();
            if self.over.is_none()
                && self.output.is_written()
                && self.lifecycle.is_over(now, &output_reader, self.output.room())
            {
                let output_reader = std::mem::replace(&mut output_reader, OutputReader::none());
                output_open |= !output_reader.are_dry();
                draining.push(tokio::spawn(output_reader.drain()));
                match self.next_step() {
                    Some(next) => {
                        process = None;
                        start = Some(self.go_on(next).await);
                    }
                    None => self.over = Some(output_open),
                }
            }
            self.tell_waiting();
            if let (None, Some(output_open), true) = (&self.ended, self.over, self.output.is_written()) {
                self.finish(output_open).await;
            }
        }
        // Refuse new connections at once instead of leaving them without an answer.
        receiving.abort();
        self.leave(lock).await;
        async {
            for draining in draining {
                let _ = draining.await;
            }
        }
    }

    fn on_started(
        &mut self,
        begun: Result<Result<RunningCommand, StartError>, tokio::task::JoinError>,
    ) -> Option<RunningCommand> {
        match begun {
            Ok(Ok(mut started)) => {
                self.lifecycle.started(&started.process);
                if let Some(pipe) = started.stdin.take() {
                    self.inputs.connect(pipe);
                }
                self.terminal = started.terminal.take().zip(self.about.tty).map(JobTerminal::new);
                let process = started.process.identity().clone();
                self.about.process = Some(process.clone());
                self.write_about();
                self.conversation.say(&FromShim::Started(process));
                self.say_hello();
                return Some(started);
            }
            Ok(Err(error)) => {
                let (error, is_first) = match &self.steps {
                    Some(steps) => (steps.failed(error), steps.at().n == 1),
                    None => (error, true),
                };
                // A command that may have run is not a failed start: it has ended.
                self.failed = Some(error.clone()).filter(|error| is_first && !error.may_have_run);
                self.lifecycle.fail(error.ending());
            }
            Err(panic) => {
                tracing::error!(%panic, "starting a job");
                self.lifecycle
                    .fail(Ending::Unknown { why: format!("its start failed inside the shim: {panic}") });
            }
        }
        self.inputs.close();
        None
    }

    /// Queues output of the command, or a message about it, for the log.
    pub(super) fn take(&mut self, stream: StreamKind, bytes: Bytes) {
        self.lifecycle.read(stream, &bytes);
        self.output.take(stream, bytes);
    }

    fn on_exit(&mut self, exit: Exit) {
        self.lifecycle.exited(Instant::now(), exit);
        let told = self.inputs.close();
        self.tell_wants(told);
    }

    fn on_input_writable(&mut self) {
        let told = self.inputs.write();
        self.tell_wants(told);
    }

    fn deadline(&self) -> Instant {
        let news = if self.conversation.is_listening() { self.output.news_at() } else { None };
        let lifecycle = self.lifecycle.deadline(self.output.room());
        let soonest =
            [news, lifecycle, self.output.try_again(), self.write_again].into_iter().flatten().min();
        soonest.unwrap_or_else(|| Instant::now() + FAR)
    }

    fn on_clock(&mut self, now: Instant) {
        self.lifecycle.on_clock(now);
        self.output.on_clock(now);
        if self.write_again.is_some_and(|at| now >= at) {
            self.write_end();
        }
    }

    /// The job is over: record its outcome.
    async fn finish(&mut self, output_open: bool) {
        self.inputs.close();
        let outcome = self.lifecycle.close(output_open).await;
        self.ended = Some(ended(outcome, self.output.reach().first()));
        self.write_end();
    }

    fn write_end(&mut self) {
        self.write_again = None;
        let (path, ended) = (self.place.ended_file(), self.ended.clone());
        self.writing = Some(tokio::task::spawn_blocking(move || atomic_file::write(&path, &ended)));
    }

    fn on_end_written(&mut self, written: Result<io::Result<()>, tokio::task::JoinError>) {
        match written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(()) => self.is_written = true,
            // Without a shim description nothing ran, which is true.
            Err(_) if self.failed.is_some() && std::fs::remove_file(self.place.about_file()).is_ok() => {
                self.is_written = true;
            }
            Err(error) => {
                self.output.end_is_held_up(&error);
                self.write_again = Some(Instant::now() + WRITE_AGAIN);
            }
        }
    }

    /// Reports the outcome, then removes all signs of a running shim.
    async fn leave(mut self, lock: File) {
        if let Some(failed) = self.failed.take() {
            self.conversation.say(&FromShim::Failed(failed));
        }
        if let Some(ended) = self.ended.take() {
            self.conversation.say(&FromShim::Ended(Box::new(ended)));
        }
        self.conversation.flush(TOLD_WITHIN).await;
        // Write nothing more once another process may own the directory.
        self.about_file.finish().await;
        stop_listening(&self.place);
        drop(lock);
    }
}

async fn exited(process: &mut Option<Process>) -> Exit {
    match process {
        Some(process) => process.exited().await,
        None => std::future::pending().await,
    }
}

fn ended(outcome: CommandOutcome, first: StreamOffsets) -> JobEnd {
    let CommandOutcome {
        ending,
        out,
        err,
        killed,
        forced,
        left_running,
        hung,
        output_open,
        held_by,
        output_cut,
        rusage,
        duration_ms,
    } = outcome;
    JobEnd {
        v: VERSION,
        ending,
        out,
        err,
        first,
        killed,
        forced,
        left_running,
        hung,
        output_open,
        held_by,
        output_cut,
        rusage: Some(rusage),
        duration_ms,
        ended_at: now(),
    }
}

/// Now, in UTC, to the second.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
