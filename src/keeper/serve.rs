//! The life of one keeper: one owner, one loop, one closed set of happenings.
//!
//! ```text
//!  order ──► Starting ──► Running ──► Ended, to be written ──► written: told, and gone
//!               └ could not be started: written, told, and gone
//! ```
//! Of a task each step goes from Starting to the end of Running, and the last one further.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::UnixListener;
use tokio::net::unix::pipe::Sender;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::conversation::{Conversation, Newcomer, heard, may_say, receive};
use super::inputs::Inputs;
use super::output::Output;
use super::place::Place;
use super::program::{Inherited, listen, stop_listening};
use super::steps::Steps;
use super::terminal::KeptTerminal;
use super::words::{About, Ended, FromKeeper, Order, ToKeeper, VERSION};
use super::written::{self, Newest};
use peerbus_process::{
    Course, Exit, Identity, Lodging, Nursery, Outcome, Process, Spec, StartError, Started, StartedInTerminal,
    Stdin, Taps, Terminal, joined, start, start_in_terminal,
};
use peerbus_protocol::Ending;
use peerbus_protocol::ending::sentence;
use peerbus_protocol::exec::OutputHolder;
use peerbus_protocol::frame::StreamKind;
use peerbus_protocol::window::Totals;

/// How often an ending is tried to be written that the disk does not take.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// How long whoever listens at the end may take to hear of it. The rest reads the file.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// Longer than anything here waits.
const FAR: Duration = Duration::from_secs(3600);

/// Newcomers who wait to be listened to.
const NEWCOMERS: usize = 4;

/// Everything that can happen to a keeper.
enum Happening {
    Started(Result<Result<Begun, StartError>, tokio::task::JoinError>),
    Came(Newcomer),
    Word(Option<ToKeeper>),
    MaySay,
    Output(StreamKind, Bytes),
    Exited(Exit),
    Progressed,
    InputWritable,
    EndWritten(Result<io::Result<()>, tokio::task::JoinError>),
    AboutWritten,
    Clock,
}

/// One keeper.
pub(super) struct Keeper {
    pub(super) place: Place,
    pub(super) about: About,
    /// The file of that.
    pub(super) about_file: Newest<About>,
    pub(super) course: Course,
    /// Whose output it was last told to wait for, after the command's own end.
    pub(super) waiting: Option<Vec<OutputHolder>>,
    pub(super) inputs: Inputs,
    pub(super) output: Output,
    pub(super) terminal: Option<KeptTerminal>,
    pub(super) conversation: Conversation,
    pub(super) ended: Option<Ended>,
    /// Where it is a task.
    pub(super) steps: Option<Steps>,
    /// All is over but the last words about it, which have to be in the log first; and whether a process that goes on
    /// holds the output open.
    over: Option<bool>,
    /// Why the command could not be started.
    failed: Option<StartError>,
    writing: Option<JoinHandle<io::Result<()>>>,
    write_again: Option<Instant>,
    /// Whether the ending is written down.
    is_written: bool,
}

/// Starts the command of an order and sees it through. The lock is held until all of it is written down.
pub(super) async fn serve(place: Place, order: Order, inherited: Inherited) {
    let Inherited { lock, hearing, saying } = inherited;
    let mut conversation = Conversation::with(hearing, saying);
    match prepare(&place, &order) {
        Ok((about, output, listener)) => {
            let (newcomers, come) = mpsc::channel(NEWCOMERS);
            let receiving = tokio::spawn(receive(listener, newcomers));
            let keeper = Keeper::new(place, about, output, conversation, &order);
            let drained = keeper.live(order, come, receiving, lock).await;
            drained.await;
        }
        Err(error) => {
            tracing::error!(%error, "preparing to keep a job");
            // It would say that the command may have run.
            let _ = std::fs::remove_file(place.about_file());
            let failed = StartError::of_system(sentence(format!("preparing the keeper of a job: {error}")));
            conversation.say(&FromKeeper::Failed(failed));
            conversation.flush(TOLD_WITHIN).await;
        }
    }
}

/// All that has to be there before the command may run. That the keeper is written down comes last: from
/// then on the command may have run.
fn prepare(place: &Place, order: &Order) -> io::Result<(About, Output, UnixListener)> {
    let output = Output::create(&place.log(), order.log_limit)?;
    let listener = listen(place)?;
    let about = About {
        v: VERSION,
        job: order.spec.job,
        keeper: Identity::of_self()?,
        version: peerbus_protocol::VERSION.to_owned(),
        lodging: order.lodging.clone(),
        tty: order.tty,
        name: order.name.clone(),
        log_limit: order.log_limit,
        started_at: now(),
        process: None,
    };
    written::keep_name_of(place.directory())?;
    written::write(&place.about_file(), &about)?;
    Ok((about, output, listener))
}

/// A command that runs.
pub(super) struct Begun {
    process: Process,
    stdin: Option<Sender>,
    taps: Taps,
    terminal: Option<Terminal>,
}

/// Starts a command, with pipes or in its terminal. Blocking.
pub(super) fn begin(spec: &Spec, lodging: &Lodging) -> Result<Begun, StartError> {
    let nursery = Nursery::of_one();
    if spec.tty.is_none() {
        let Started { process, stdin, stdout, stderr } = start(spec, lodging, &nursery)?;
        return Ok(Begun { process, stdin, taps: Taps::new(stdout, stderr), terminal: None });
    }
    let StartedInTerminal { process, terminal, typed, shown } = start_in_terminal(spec, lodging, &nursery)?;
    Ok(Begun { process, stdin: Some(typed), taps: Taps::new(shown, None), terminal: Some(terminal) })
}

impl Keeper {
    fn new(place: Place, about: About, output: Output, conversation: Conversation, order: &Order) -> Self {
        Self {
            about_file: Newest::at(place.about_file()),
            place,
            about,
            course: Course::new(order.spec.job, order.timeout_ms.map(Duration::from_millis))
                .without_waiting(order.no_wait),
            waiting: None,
            inputs: match (order.tty, order.spec.stdin) {
                (Some(_), _) => Inputs::of_terminal(order.owner.as_deref()),
                (None, Stdin::Pipe) => Inputs::expected(order.owner.as_deref()),
                (None, Stdin::Null) => Inputs::closed(),
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

    /// Until the lock is free. Returns what a process that goes on may still need: somebody who reads what it
    /// writes.
    async fn live(
        mut self,
        order: Order,
        mut come: mpsc::Receiver<Newcomer>,
        receiving: JoinHandle<()>,
        lock: File,
    ) -> impl Future<Output = ()> {
        let spec = Spec { tty: order.tty, ..order.spec };
        self.announce(&spec);
        let mut start = Some(tokio::task::spawn_blocking(move || begin(&spec, &order.lodging)));
        let mut taps = Taps::none();
        let mut process: Option<Process> = None;
        let (mut draining, mut output_open) = (Vec::new(), false);
        while !self.is_written {
            // However often something here is ready: who comes, and the end of the command, are noticed elsewhere.
            tokio::task::coop::consume_budget().await;
            let (room, deadline) = (self.output.room(), self.deadline());
            let happening = tokio::select! {
                begun = joined(&mut start) => Happening::Started(begun),
                Some(newcomer) = come.recv() => Happening::Came(newcomer),
                word = heard(&mut self.conversation.hearing) => Happening::Word(word),
                () = may_say(&self.conversation.saying) => Happening::MaySay,
                (stream, bytes) = taps.next(room), if room > 0 => Happening::Output(stream, bytes),
                exit = exited(&mut process), if !self.course.has_exited() => Happening::Exited(exit),
                () = self.course.progressed() => Happening::Progressed,
                () = self.inputs.writable() => Happening::InputWritable,
                written = joined(&mut self.writing) => Happening::EndWritten(written),
                () = self.about_file.written() => Happening::AboutWritten,
                () = tokio::time::sleep_until(deadline.into()) => Happening::Clock,
            };
            match happening {
                Happening::Started(begun) => {
                    if let Some(begun) = self.on_started(begun) {
                        taps = begun.taps;
                        process = Some(begun.process);
                    }
                }
                Happening::Came(newcomer) => self.on_newcomer(newcomer),
                Happening::Word(Some(word)) => self.on_word(word),
                Happening::Word(None) => {
                    self.output.pace(None);
                    self.conversation.give_up();
                }
                Happening::MaySay => self.conversation.write(),
                Happening::Output(stream, bytes) => {
                    if let Some(terminal) = &mut self.terminal {
                        terminal.show(&bytes);
                    }
                    if let Some(steps) = &mut self.steps {
                        steps.read(stream, &bytes);
                    }
                    self.take(stream, bytes);
                }
                Happening::Exited(exit) => self.on_exit(exit),
                Happening::Progressed | Happening::AboutWritten => {}
                Happening::InputWritable => self.on_input_writable(),
                Happening::EndWritten(written) => self.on_end_written(written),
                Happening::Clock => self.on_clock(Instant::now()),
            }
            self.tell_news();
            let now = Instant::now();
            if self.over.is_none()
                && self.output.is_written()
                && self.course.is_over(now, &taps, self.output.room())
            {
                let taps = std::mem::replace(&mut taps, Taps::none());
                output_open |= !taps.are_dry();
                draining.push(tokio::spawn(taps.drain()));
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
        // Who comes now is not kept waiting for an answer.
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
        begun: Result<Result<Begun, StartError>, tokio::task::JoinError>,
    ) -> Option<Begun> {
        match begun {
            Ok(Ok(mut started)) => {
                self.course.started(&started.process);
                if let Some(pipe) = started.stdin.take() {
                    self.inputs.connect(pipe);
                }
                self.terminal = started.terminal.take().zip(self.about.tty).map(KeptTerminal::new);
                let process = started.process.identity().clone();
                self.about.process = Some(process.clone());
                self.write_about();
                self.conversation.say(&FromKeeper::Started(process));
                self.say_hello();
                return Some(started);
            }
            Ok(Err(error)) => {
                let (error, is_first) = match &self.steps {
                    Some(steps) => (steps.failed(error), steps.at().n == 1),
                    None => (error, true),
                };
                // What may have run is no failed start: it has ended.
                self.failed = Some(error.clone()).filter(|error| is_first && !error.may_have_run);
                self.course.fail(error.ending());
            }
            Err(panic) => {
                tracing::error!(%panic, "starting a job");
                self.course
                    .fail(Ending::Unknown { why: format!("its start failed inside the keeper: {panic}") });
            }
        }
        self.inputs.close();
        None
    }

    /// What was written by the command, or is said about it.
    pub(super) fn take(&mut self, stream: StreamKind, bytes: Bytes) {
        self.course.read(stream, &bytes);
        self.output.take(stream, bytes);
    }

    fn on_exit(&mut self, exit: Exit) {
        self.course.exited(Instant::now(), exit);
        let told = self.inputs.close();
        self.tell_wants(told);
    }

    fn on_input_writable(&mut self) {
        let told = self.inputs.write();
        self.tell_wants(told);
    }

    fn deadline(&self) -> Instant {
        let news = if self.conversation.is_listening() { self.output.news_at() } else { None };
        let course = self.course.deadline(self.output.room());
        let soonest = [news, course, self.output.try_again(), self.write_again].into_iter().flatten().min();
        soonest.unwrap_or_else(|| Instant::now() + FAR)
    }

    fn on_clock(&mut self, now: Instant) {
        self.course.on_clock(now);
        self.output.on_clock(now);
        if self.write_again.is_some_and(|at| now >= at) {
            self.write_end();
        }
    }

    /// The job is over: all that is left is to write down how it ended.
    async fn finish(&mut self, output_open: bool) {
        self.inputs.close();
        let outcome = self.course.close(output_open).await;
        self.ended = Some(ended(outcome, self.output.reach().first()));
        self.write_end();
    }

    fn write_end(&mut self) {
        self.write_again = None;
        let (path, ended) = (self.place.ended_file(), self.ended.clone());
        self.writing = Some(tokio::task::spawn_blocking(move || written::write(&path, &ended)));
    }

    fn on_end_written(&mut self, written: Result<io::Result<()>, tokio::task::JoinError>) {
        match written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(()) => self.is_written = true,
            // Without a word of a keeper nothing ran, which is how it was.
            Err(_) if self.failed.is_some() && std::fs::remove_file(self.place.about_file()).is_ok() => {
                self.is_written = true;
            }
            Err(error) => {
                self.output.end_is_held_up(&error);
                self.write_again = Some(Instant::now() + WRITE_AGAIN);
            }
        }
    }

    /// Tells the ending, and lets go of everything that says that there is a keeper.
    async fn leave(mut self, lock: File) {
        if let Some(failed) = self.failed.take() {
            self.conversation.say(&FromKeeper::Failed(failed));
        }
        if let Some(ended) = self.ended.take() {
            self.conversation.say(&FromKeeper::Ended(Box::new(ended)));
        }
        self.conversation.flush(TOLD_WITHIN).await;
        // Nothing is written any more once somebody else may have the directory.
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

fn ended(outcome: Outcome, first: Totals) -> Ended {
    let Outcome {
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
    Ended {
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
