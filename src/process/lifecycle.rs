//! The course of one command: from its start to the end of all it has started and written.
//!
//! ```text
//!  new ──► started ──► exited ──► over ──► close: the Outcome
//!   │         └ stop, signal, timeout: the whole tree
//!   └──► fail: nothing ran
//! ```
//! A job may be several commands, one after the other: where one is over, [`CommandLifecycle::go_on`] begins with the next.
//!
//! Guarantees: a command is over when it has exited, its tree was stopped where that was asked for, and its
//! output has ended, or is held open by servers alone, or nobody waits for those who hold it. What was first asked to
//! stop it is how it ended, unless it had ended by itself; then it is said that its output was cut. A time limit counts
//! from when it was taken on to the end of the output. What hangs in the kernel, so that even KILL does not end it, is
//! waited for some seconds and then named.
//!
//! Limit: whoever has this runs the loop. It holds no output and waits for nobody.

use std::io;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::holders::Holder;
use super::job::Process;
use super::output_reader::OutputReader;
use super::pidfd::{Exit, ExitKind, Usage};
use super::process_set::{KILLED_GONE, ProcessSet, Stopped};
use super::signal::Signal;
use peerbus_protocol::exec::{HOLDERS_SHOWN, HungProcess, OutputHolder, Rusage, StreamTotal};
use peerbus_protocol::frame::StreamKind;
use peerbus_protocol::send_buffer::StreamOffsets;
use peerbus_protocol::{Ending, JobId};

/// How long a process may take to end after it was asked to, before it is killed.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// How long after a signal that asks it to end a command may end because of it.
const HEEDED_WITHIN: Duration = Duration::from_secs(5);

/// How long what an interrupted command has left is waited for: what had yet to be flushed comes at once.
const AFTER_AN_INTERRUPT: Duration = Duration::from_secs(2);

/// How long processes that are just ending get before they count as left running.
const SETTLE: Duration = Duration::from_millis(50);

mod output_holders;

use output_holders::Lingering;

/// Stops a tree; says what of it hangs in the kernel.
type StopTask = JoinHandle<io::Result<(Stopped, Vec<HungProcess>)>>;

/// One command that is to be started, runs, or has ended.
#[derive(Debug)]
pub struct CommandLifecycle {
    job: JobId,
    timeout: Option<Duration>,
    /// When somebody began to wait for it, from which on its timeout counts.
    accepted: Instant,
    /// Whether nobody waits for output that the command leaves to others.
    no_wait: bool,
    /// The last moment at which it surely did not run: it is never said to have run for less than it did.
    since: Option<Instant>,
    exited: Option<Instant>,
    /// The session of the command, which is numbered as it is.
    session: u32,
    /// From the start to the close.
    tree: Option<ProcessSet>,
    exit: Option<Exit>,
    /// From the exit on.
    lingering: Option<Lingering>,
    /// Whether its output was held open when that was looked at last.
    is_held: bool,
    /// Those who held the output of commands before this one when they were over.
    held_before: Vec<Holder>,
    /// Why output is missing that was still to come.
    cut: Option<String>,
    /// Whether its tree was stopped.
    stopped: bool,
    /// How it ends, once somebody has asked for that.
    stopping: Option<Ending>,
    stop_task: Option<StopTask>,
    /// By when it has ended where its caller has killed it, unless it hangs in the kernel.
    ends_by: Option<Instant>,
    killed: u32,
    forced: u32,
    /// What even KILL did not end.
    hung: Vec<HungProcess>,
    /// The last signal that was delivered, and when, to tell an end by it.
    signalled: Option<(Signal, Instant)>,
    /// Whether it ended upon a signal that asked it to, though perhaps not by that.
    interrupted: bool,
    totals: StreamOffsets,
    digests: [blake3::Hasher; 2],
    /// What the commands before this one have used, and for how long.
    used_before: (Usage, u64),
    /// What is left of them, where that is not found with the one that runs.
    left_behind: Vec<ProcessSet>,
    closed: bool,
}

/// How a command ended, with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutcome {
    /// How it ended.
    pub ending: Ending,
    /// All it wrote to stdout.
    pub out: StreamTotal,
    /// All it wrote to stderr.
    pub err: StreamTotal,
    /// Processes that had to be stopped.
    pub killed: u32,
    /// How many of these had to be killed.
    pub forced: u32,
    /// Processes that go on; one at least where nobody could look.
    pub left_running: u32,
    /// Those of them that hang in the kernel.
    pub hung: Vec<HungProcess>,
    /// Whether one that goes on still holds the output open.
    pub output_open: bool,
    /// Such processes.
    pub held_by: Vec<OutputHolder>,
    /// Why output is missing that was still to come when the command ended.
    pub output_cut: Option<String>,
    /// What it used.
    pub rusage: Rusage,
    /// From the start of the process to its end, in milliseconds; never less.
    pub duration_ms: u64,
}

impl CommandLifecycle {
    /// A command that is to be started, and to be over after `timeout`, counted from now.
    #[must_use]
    pub fn new(job: JobId, timeout: Option<Duration>) -> Self {
        Self {
            job,
            timeout,
            no_wait: false,
            accepted: Instant::now(),
            since: None,
            exited: None,
            session: 0,
            tree: None,
            exit: None,
            lingering: None,
            is_held: false,
            held_before: Vec::new(),
            cut: None,
            stopped: false,
            stopping: None,
            stop_task: None,
            ends_by: None,
            killed: 0,
            forced: 0,
            hung: Vec::new(),
            signalled: None,
            interrupted: false,
            totals: StreamOffsets::default(),
            digests: [blake3::Hasher::new(), blake3::Hasher::new()],
            used_before: (Usage::default(), 0),
            left_behind: Vec::new(),
            closed: false,
        }
    }

    /// Whether nobody waits for output that the command leaves to others.
    #[must_use]
    pub fn without_waiting(self, no_wait: bool) -> Self {
        Self { no_wait, ..self }
    }

    /// It runs. Who has asked to stop it meanwhile is obeyed now.
    pub fn started(&mut self, process: &Process) {
        self.since = Some(process.since());
        self.session = process.identity().pid;
        self.tree = Some(process.tree());
        if self.stopping.is_some() {
            self.stop_tree();
        }
    }

    /// Nothing runs, and nothing will.
    pub fn fail(&mut self, ending: Ending) {
        self.stopping = Some(ending);
        self.exit = Some(Exit { status: ExitKind::Unknown, usage: Usage::default() });
    }

    /// The command itself has ended.
    pub fn exited(&mut self, now: Instant, exit: Exit) {
        self.exited = Some(now);
        self.exit = Some(exit);
        self.interrupted =
            self.signalled.is_some_and(|(signal, at)| signal.asks_to_end() && now < at + HEEDED_WITHIN);
        let mut lingering = Lingering::since(now);
        if self.no_wait || self.stopped {
            lingering.release(now + SETTLE);
        } else if self.interrupted {
            // Nobody who wants it to end waits for what does not heed that.
            lingering.release(now + AFTER_AN_INTERRUPT);
        }
        self.lingering = Some(lingering);
        // Who interrupts a command means everything it started.
        let by_signal = match exit.status {
            ExitKind::Signal(number) => Some(number),
            ExitKind::Code(code) if code > 128 => Some(code - 128),
            _ => None,
        };
        if by_signal.is_some() && by_signal == self.signalled.map(|(signal, _)| signal.number()) {
            self.stop_tree();
        }
    }

    /// It is over, and the job goes on with another command, which has `timeout` from now on. What was read,
    /// used and killed so far counts on. What it has left running goes on, and is stopped with the job.
    pub async fn go_on(&mut self, timeout: Option<Duration>) {
        self.used_before = (self.usage(), self.ran_for_ms());
        let left = self.left_of(self.tree.as_ref()).await;
        match self.tree.take() {
            Some(tree) if left > 0 && tree.has_a_reaper() => self.left_behind.push(tree),
            Some(tree) => _ = tokio::task::spawn_blocking(move || tree.release()).await,
            None => {}
        }
        (self.since, self.exited) = (None, None);
        (self.exit, self.signalled, self.ends_by) = (None, None, None);
        self.held_before.extend(
            self.lingering.take().filter(|_| self.is_held).into_iter().flat_map(Lingering::into_seen),
        );
        self.is_held = false;
        (self.timeout, self.accepted) = (timeout, Instant::now());
    }

    /// It has ended, and is told to have ended so: somebody wanted the job to end meanwhile.
    pub fn end_as(&mut self, ending: Ending) {
        self.stopping.get_or_insert(ending);
    }

    /// Whether the command itself has ended, or will never run.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        self.exit.is_some()
    }

    /// Whether it runs, or something of it may: there is something to signal.
    #[must_use]
    pub fn has_tree(&self) -> bool {
        self.tree.is_some()
    }

    /// Counts what was read from it.
    pub fn read(&mut self, stream: StreamKind, bytes: &[u8]) {
        *self.totals.of_mut(stream) += bytes.len() as u64;
        self.digests[stream as usize].update(bytes);
    }

    /// Signals all of its tree.
    ///
    /// # Errors
    /// A sentence: the signal is none, or could not be delivered.
    pub fn signal(&mut self, signal: &str) -> Result<(), String> {
        let signal = signal.parse::<Signal>().map_err(|bad| bad.to_string())?;
        let now = Instant::now();
        self.signalled = Some((signal, now));
        if signal == Signal::KILL && self.exit.is_none() {
            self.ends_by.get_or_insert(now + KILLED_GONE);
        }
        tracing::debug!(job = %self.job, %signal, "signalled");
        let Some(tree) = &self.tree else { return Err("nothing of the job runs".to_owned()) };
        for left in &self.left_behind {
            // What matters is the command that runs.
            let _ = left.signal(signal);
        }
        tree.signal(signal).map_err(|error| error.to_string())
    }

    /// Has the whole tree stopped. How it ended is settled by this, unless the command has ended by
    /// itself already.
    pub fn stop(&mut self, ending: Ending) {
        if self.closed || self.stopping.is_some() {
            return;
        }
        tracing::debug!(job = %self.job, %ending, "stopping");
        if self.exit.is_none() {
            self.stopping = Some(ending);
        } else if self.is_held {
            self.cut.get_or_insert_with(|| format!("what still held it was stopped ({ending})"));
        }
        self.stop_tree();
    }

    /// Waits no longer for what the command, which has ended, has left to others: they go on.
    pub fn release(&mut self, now: Instant) {
        if let Some(lingering) = self.lingering.as_mut().filter(|_| self.is_held && !self.closed) {
            tracing::debug!(job = %self.job, "released");
            if lingering.leaves_somebody() {
                self.cut.get_or_insert_with(|| "nobody waited for the rest of it".to_owned());
            }
            lingering.release(now);
        }
    }

    /// Those whose output is waited for after the command's own end, where that takes a while. Empty where none of them
    /// can be seen.
    #[must_use]
    pub fn waits_for(&self, now: Instant) -> Option<Vec<OutputHolder>> {
        let lingering = self.lingering.as_ref().filter(|_| self.is_held && !self.closed)?;
        lingering.waits_for(now)
    }

    fn stop_tree(&mut self) {
        self.stop_tree_after(KILL_GRACE);
    }

    fn stop_tree_after(&mut self, grace: Duration) {
        let Some(tree) = self.tree.clone() else { return };
        let left_behind = self.left_behind.clone();
        if self.stop_task.is_none() {
            self.stop_task = Some(tokio::spawn(async move {
                let (mut all, mut hung) = (Stopped::default(), Vec::new());
                for tree in [tree].into_iter().chain(left_behind) {
                    let stopped = tree.stop(grace).await?;
                    if stopped.left > 0 {
                        let processes = tokio::task::spawn_blocking(move || tree.processes()).await;
                        hung.extend(processes.map_err(io::Error::other)??);
                    }
                    all = all.and(stopped);
                }
                Ok((all, hung))
            }));
        }
    }

    /// Waits until the tree was stopped, where that was asked for, or it was looked who holds its output. Cancel safe.
    pub async fn progressed(&mut self) {
        let looked = async {
            match &mut self.lingering {
                Some(lingering) => lingering.looked().await,
                None => std::future::pending().await,
            }
        };
        let stopped = tokio::select! {
            stopped = joined(&mut self.stop_task) => stopped,
            () = looked => return,
        };
        match stopped {
            Ok(Ok((stopped, hung))) => {
                self.killed += stopped.killed;
                self.forced += stopped.forced;
                if stopped.left > 0 {
                    let named =
                        hung.iter().map(|HungProcess { pid, program }| format!("{program} (pid {pid})"));
                    let named = named.collect::<Vec<_>>().join(", ");
                    let left = stopped.left;
                    tracing::error!(job = %self.job, left, hung = named, "processes hang in the kernel and cannot be stopped");
                }
                if !hung.is_empty() {
                    // It has not, but nobody waits for it any more.
                    self.exited.get_or_insert_with(Instant::now);
                }
                self.hung = hung;
            }
            Ok(Err(error)) => {
                tracing::error!(job = %self.job, %error, "nobody can look whether a job was stopped");
            }
            Err(panic) => tracing::error!(job = %self.job, %panic, "stopping a job"),
        }
        // Whoever holds its output now could not be stopped, or is none of it.
        self.stopped = true;
        if let Some(lingering) = &mut self.lingering {
            lingering.release(Instant::now());
        }
    }

    /// When to look at the clock next; `room` is how much may be read from it now.
    #[must_use]
    pub fn deadline(&self, room: u64) -> Option<Instant> {
        if self.closed {
            return None;
        }
        match self.exit {
            None if self.stop_task.is_some() => None,
            None => self.timeout_at().into_iter().chain(self.ends_by).min(),
            Some(_) if self.stop_task.is_none() && self.is_held => {
                let look = self.lingering.as_ref().filter(|_| room > 0).and_then(Lingering::deadline);
                look.into_iter().chain(self.timeout_at()).min()
            }
            Some(_) => None,
        }
    }

    /// The clock was looked at: what ran for too long is stopped.
    pub fn on_clock(&mut self, now: Instant) {
        // Its output is a part of it, as long as somebody may write that.
        let runs = self.exit.is_none() || (self.is_held && self.stop_task.is_none());
        if runs && !self.closed && self.timeout_at().is_some_and(|at| now >= at) {
            self.timeout = None;
            self.stopping.get_or_insert(Ending::TimedOut {});
            self.stop_tree();
        }
        // KILL was sent already, and has no effect: it is looked what is left.
        if self.exit.is_none() && self.ends_by.take_if(|at| now >= *at).is_some() {
            self.stop_tree_after(Duration::ZERO);
        }
    }

    fn timeout_at(&self) -> Option<Instant> {
        self.accepted.checked_add(self.timeout?)
    }

    /// Whether all of it is over, as far as anybody waits for it; `room` is how much may be read from it
    /// now. Where its output has not ended with it, it is looked who holds that.
    pub fn is_over(&mut self, now: Instant, output_reader: &OutputReader, room: u64) -> bool {
        self.is_held = false;
        if self.stop_task.is_some() {
            return false;
        }
        if !self.hung.is_empty() {
            // Nobody waits for what the kernel does not let go of. What has come of it is still read.
            return output_reader.are_dry() || (room > 0 && output_reader.are_held());
        }
        if self.exit.is_none() {
            return false;
        }
        if output_reader.are_dry() {
            return true;
        }
        self.is_held = output_reader.are_held();
        let (Some(tree), Some(lingering)) = (&self.tree, &mut self.lingering) else { return false };
        // What nobody holds ends by itself, and what nobody reads cannot have ended.
        self.is_held && room > 0 && lingering.is_over(now, output_reader, self.totals, (tree, self.session))
    }

    /// Leaves alone whatever still runs, and says how it ended.
    pub async fn close(&mut self, output_open: bool) -> CommandOutcome {
        self.closed = true;
        if output_open && self.interrupted && self.lingering.as_ref().is_some_and(Lingering::leaves_somebody)
        {
            self.cut.get_or_insert_with(|| "it was interrupted, and what it left still held it".to_owned());
        }
        let held_by = self.held_by(output_open).await;
        let left_running = self.left_running().await;
        for tree in self.tree.take().into_iter().chain(std::mem::take(&mut self.left_behind)) {
            // For a reaper this is a word on a socket; for a cgroup the removal of a directory.
            let _ = tokio::task::spawn_blocking(move || tree.release()).await;
        }
        let usage = self.usage();
        CommandOutcome {
            ending: self.ending(),
            out: self.total(StreamKind::Out),
            err: self.total(StreamKind::Err),
            killed: self.killed,
            forced: self.forced,
            left_running,
            hung: std::mem::take(&mut self.hung),
            output_open,
            held_by,
            output_cut: self.cut.take(),
            rusage: Rusage {
                user_ms: usage.user_ms,
                system_ms: usage.system_ms,
                max_rss_kib: usage.max_rss_kib,
            },
            duration_ms: self.ran_for_ms(),
        }
    }

    /// Those who hold the output open, and go on.
    async fn held_by(&mut self, output_open: bool) -> Vec<OutputHolder> {
        let mut holders = std::mem::take(&mut self.held_before);
        holders
            .extend(self.lingering.take().filter(|_| output_open).into_iter().flat_map(Lingering::into_seen));
        if holders.is_empty() {
            return Vec::new();
        }
        let alive = move || {
            let alive = holders.into_iter().filter(Holder::is_alive).map(|holder| holder.who);
            alive.take(HOLDERS_SHOWN).collect()
        };
        tokio::task::spawn_blocking(alive).await.unwrap_or_default()
    }

    /// What all commands so far have used.
    fn usage(&self) -> Usage {
        let (before, own) = (self.used_before.0, self.exit.map(|exit| exit.usage).unwrap_or_default());
        Usage {
            user_ms: before.user_ms + own.user_ms,
            system_ms: before.system_ms + own.system_ms,
            max_rss_kib: before.max_rss_kib.max(own.max_rss_kib),
        }
    }

    /// Processes that go on after a normal end; one at least where nobody could look.
    async fn left_running(&self) -> u32 {
        let mut left = 0;
        for tree in self.tree.iter().chain(&self.left_behind) {
            left += self.left_of(Some(tree)).await;
        }
        left
    }

    async fn left_of(&self, tree: Option<&ProcessSet>) -> u32 {
        let Some(tree) = tree else { return 0 };
        if let Ok(0) = count(tree).await {
            return 0;
        }
        // The last of a pipeline may be on their way out.
        tokio::time::sleep(SETTLE).await;
        count(tree).await.unwrap_or_else(|error| {
            tracing::error!(job = %self.job, %error, "nobody can look whether a job left something running");
            1
        })
    }

    /// How it has ended, where it has.
    #[must_use]
    pub fn ending(&self) -> Ending {
        match (self.exit.map(|exit| exit.status), &self.stopping) {
            (Some(ExitKind::Code(code)), None) => Ending::Exited { code },
            (Some(ExitKind::Signal(number)), None) => {
                let name = Signal::try_from(number).map_or_else(|_| number.to_string(), Signal::name);
                Ending::Signalled { signal: name, number }
            }
            (_, Some(ending)) => ending.clone(),
            (None, None) if !self.hung.is_empty() => {
                Ending::Unknown { why: "it was killed, and the kernel has not let go of it".to_owned() }
            }
            (Some(ExitKind::Unknown) | None, None) => {
                Ending::Unknown { why: "what watched over it was killed".to_owned() }
            }
        }
    }

    fn total(&self, stream: StreamKind) -> StreamTotal {
        let digest = self.digests[stream as usize].finalize();
        StreamTotal { bytes: self.totals.of(stream), blake3: digest.to_hex().to_string() }
    }

    fn ran_for_ms(&self) -> u64 {
        let ran = self.since.zip(self.exited).map(|(from, to)| to.saturating_duration_since(from));
        let own = ran.map_or(0, |ran| u64::try_from(ran.as_millis()).unwrap_or(u64::MAX));
        self.used_before.1.saturating_add(own)
    }
}

async fn count(tree: &ProcessSet) -> io::Result<u32> {
    let tree = tree.clone();
    tokio::task::spawn_blocking(move || tree.count()).await.map_err(io::Error::other)?
}

/// Waits for a task, where there is one; its outcome comes once. Cancel safe.
///
/// # Errors
/// When the task panicked.
pub async fn joined<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(handle) => {
            let outcome = handle.await;
            *task = None;
            outcome
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
