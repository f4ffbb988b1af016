//! The lifecycle of one command: from its start until its processes and its output have ended.
//!
//! ```text
//!   new ──► started ──► exited ──► over ──► close: the CommandOutcome
//!    │         └ stop, signal, timeout: act on all processes of the command
//!   └──► fail: nothing ran
//! ```
//! A job may run several commands in sequence: after each one, [`CommandLifecycle::go_on`] prepares the next.
//!
//! Guarantees: a command is over when it has exited, any requested stop has finished, and its output is
//! complete. Output counts as complete at end of file, when only servers hold it open, or when the caller
//! does not wait for its holders. The first stop request determines the outcome, unless the command had
//! already exited; then the outcome reports truncated output. The time limit runs from acceptance to the end
//! of the output. Processes that hang in the kernel and survive SIGKILL are awaited for a few seconds, then
//! reported.
//!
//! Limit: the owner runs the event loop. This type stores no output and never blocks.

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

/// Time between SIGTERM and SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// A command that exits within this time after a terminating signal counts as interrupted.
const HEEDED_WITHIN: Duration = Duration::from_secs(5);

/// How long to wait for the output holders of an interrupted command. Buffered output arrives at once.
const AFTER_AN_INTERRUPT: Duration = Duration::from_secs(2);

/// Processes that are about to exit get this long before they count as left running.
const SETTLE: Duration = Duration::from_millis(50);

mod output_holders;

use output_holders::Lingering;

/// Stops all processes of the job and returns those that hang in the kernel.
type StopTask = JoinHandle<io::Result<(Stopped, Vec<HungProcess>)>>;

/// One command: not started yet, running, or ended.
#[derive(Debug)]
pub struct CommandLifecycle {
    job: JobId,
    timeout: Option<Duration>,
    /// When the command was accepted. Its timeout counts from here.
    accepted: Instant,
    /// Whether to ignore output that the command's descendants still hold open.
    no_wait: bool,
    /// A moment just before the process started, so that the reported duration is never too short.
    since: Option<Instant>,
    exited: Option<Instant>,
    /// The session id, which equals the command's pid.
    session: u32,
    /// Set from start to close.
    tree: Option<ProcessSet>,
    exit: Option<Exit>,
    /// Set from exit on.
    lingering: Option<Lingering>,
    /// Whether the last check found the output held open.
    is_held: bool,
    /// The output holders of earlier commands, as seen when each was over.
    held_before: Vec<Holder>,
    /// Why the output is truncated.
    cut: Option<String>,
    /// Whether its processes were stopped.
    stopped: bool,
    /// The requested outcome, if somebody asked to stop the command.
    stopping: Option<Ending>,
    stop_task: Option<StopTask>,
    /// After the caller sent SIGKILL: the deadline by which the command ends unless it hangs in the kernel.
    ends_by: Option<Instant>,
    killed: u32,
    forced: u32,
    /// Processes that survived SIGKILL.
    hung: Vec<HungProcess>,
    /// The last delivered signal and its time. Tells whether this signal ended the command.
    signalled: Option<(Signal, Instant)>,
    /// Whether the command exited soon after a terminating signal, for whatever reason.
    interrupted: bool,
    totals: StreamOffsets,
    digests: [blake3::Hasher; 2],
    /// Resource usage and run time (ms) of the earlier commands.
    used_before: (Usage, u64),
    /// Processes of earlier commands that the current `ProcessSet` does not cover.
    left_behind: Vec<ProcessSet>,
    closed: bool,
}

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutcome {
    /// Why it ended.
    pub ending: Ending,
    /// The totals of stdout.
    pub out: StreamTotal,
    /// The totals of stderr.
    pub err: StreamTotal,
    /// Processes that were stopped.
    pub killed: u32,
    /// How many of those needed SIGKILL.
    pub forced: u32,
    /// Processes still running; at least one if they could not be counted.
    pub left_running: u32,
    /// The remaining processes that hang in the kernel.
    pub hung: Vec<HungProcess>,
    /// Whether a remaining process holds the output open.
    pub output_open: bool,
    /// The remaining processes that hold the output open.
    pub held_by: Vec<OutputHolder>,
    /// Why the output is truncated, if it is.
    pub output_cut: Option<String>,
    /// Resource usage.
    pub rusage: Rusage,
    /// Time from start to exit, in milliseconds; rounded so that it is never too short.
    pub duration_ms: u64,
}

impl CommandLifecycle {
    /// A command that has not started yet. `timeout` counts from now.
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

    /// Sets whether to ignore output that the command's descendants still hold open.
    #[must_use]
    pub fn without_waiting(self, no_wait: bool) -> Self {
        Self { no_wait, ..self }
    }

    /// Records the start. Carries out a stop that was requested during the launch.
    pub fn started(&mut self, process: &Process) {
        self.since = Some(process.since());
        self.session = process.identity().pid;
        self.tree = Some(process.tree());
        if self.stopping.is_some() {
            self.stop_tree();
        }
    }

    /// Records that the command did not start and never will.
    pub fn fail(&mut self, ending: Ending) {
        self.stopping = Some(ending);
        self.exit = Some(Exit { status: ExitKind::Unknown, usage: Usage::default() });
    }

    /// Records the exit of the command itself.
    pub fn exited(&mut self, now: Instant, exit: Exit) {
        self.exited = Some(now);
        self.exit = Some(exit);
        self.interrupted =
            self.signalled.is_some_and(|(signal, at)| signal.asks_to_end() && now < at + HEEDED_WITHIN);
        let mut lingering = Lingering::since(now);
        if self.no_wait || self.stopped {
            lingering.release(now + SETTLE);
        } else if self.interrupted {
            // An interrupted command does not wait for descendants that ignored the signal.
            lingering.release(now + AFTER_AN_INTERRUPT);
        }
        self.lingering = Some(lingering);
        // An interrupt is meant for every process of the command.
        let by_signal = match exit.status {
            ExitKind::Signal(number) => Some(number),
            ExitKind::Code(code) if code > 128 => Some(code - 128),
            _ => None,
        };
        if by_signal.is_some() && by_signal == self.signalled.map(|(signal, _)| signal.number()) {
            self.stop_tree();
        }
    }

    /// Prepares for the job's next command, with `timeout` counted from now. Totals, usage and kill counts
    /// accumulate. Processes left by the previous command keep running and are stopped together with the job.
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

    /// Reports `ending` as the outcome of a command that has already exited: the job was stopped meanwhile.
    pub fn end_as(&mut self, ending: Ending) {
        self.stopping.get_or_insert(ending);
    }

    /// Whether the command itself has exited or will never run.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        self.exit.is_some()
    }

    /// Whether there may be processes to signal.
    #[must_use]
    pub fn has_tree(&self) -> bool {
        self.tree.is_some()
    }

    /// Adds to the totals and digests of the output.
    pub fn read(&mut self, stream: StreamKind, bytes: &[u8]) {
        *self.totals.of_mut(stream) += bytes.len() as u64;
        self.digests[stream as usize].update(bytes);
    }

    /// Signals all processes of the command.
    ///
    /// # Errors
    /// A sentence: the signal is invalid or could not be delivered.
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
            // Best effort: the result reports on the current command only.
            let _ = left.signal(signal);
        }
        tree.signal(signal).map_err(|error| error.to_string())
    }

    /// Stops all processes. `ending` becomes the outcome unless the command has already exited.
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

    /// Stops waiting for the output holders of an exited command. They keep running.
    pub fn release(&mut self, now: Instant) {
        if let Some(lingering) = self.lingering.as_mut().filter(|_| self.is_held && !self.closed) {
            tracing::debug!(job = %self.job, "released");
            if lingering.leaves_somebody() {
                self.cut.get_or_insert_with(|| "nobody waited for the rest of it".to_owned());
            }
            lingering.release(now);
        }
    }

    /// The output holders that delay the end of an exited command, once the delay is long enough to report.
    /// Empty if none of them is visible.
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

    /// Waits until a requested stop or a running check for output holders completes. Cancel safe.
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
                    // It has not exited, but nobody waits for it any more.
                    self.exited.get_or_insert_with(Instant::now);
                }
                self.hung = hung;
            }
            Ok(Err(error)) => {
                tracing::error!(job = %self.job, %error, "nobody can look whether a job was stopped");
            }
            Err(panic) => tracing::error!(job = %self.job, %panic, "stopping a job"),
        }
        // Any remaining output holder either could not be stopped or does not belong to the job.
        self.stopped = true;
        if let Some(lingering) = &mut self.lingering {
            lingering.release(Instant::now());
        }
    }

    /// The next deadline for [`CommandLifecycle::on_clock`]. `room` is the number of output bytes that may be
    /// read now.
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

    /// Handles expired deadlines, for example by stopping a command that exceeds its timeout.
    pub fn on_clock(&mut self, now: Instant) {
        // The timeout includes the output, as long as a process may still write to it.
        let runs = self.exit.is_none() || (self.is_held && self.stop_task.is_none());
        if runs && !self.closed && self.timeout_at().is_some_and(|at| now >= at) {
            self.timeout = None;
            self.stopping.get_or_insert(Ending::TimedOut {});
            self.stop_tree();
        }
        // SIGKILL had no effect: find out which processes are left.
        if self.exit.is_none() && self.ends_by.take_if(|at| now >= *at).is_some() {
            self.stop_tree_after(Duration::ZERO);
        }
    }

    fn timeout_at(&self) -> Option<Instant> {
        self.accepted.checked_add(self.timeout?)
    }

    /// Whether the command is over. `room` is the number of output bytes that may be read now. If the output
    /// outlives the command, this starts a check for its holders.
    pub fn is_over(&mut self, now: Instant, output_reader: &OutputReader, room: u64) -> bool {
        self.is_held = false;
        if self.stop_task.is_some() {
            return false;
        }
        if !self.hung.is_empty() {
            // Do not wait for a process that hangs in the kernel. Its available output is still read.
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
        // A pipe without holders reaches end of file by itself; without room nobody can read up to it.
        self.is_held && room > 0 && lingering.is_over(now, output_reader, self.totals, (tree, self.session))
    }

    /// Releases the remaining processes without stopping them, and returns the outcome.
    pub async fn close(&mut self, output_open: bool) -> CommandOutcome {
        self.closed = true;
        if output_open && self.interrupted && self.lingering.as_ref().is_some_and(Lingering::leaves_somebody)
        {
            self.cut.get_or_insert_with(|| "it was interrupted, and what it left still held it".to_owned());
        }
        let held_by = self.held_by(output_open).await;
        let left_running = self.left_running().await;
        for tree in self.tree.take().into_iter().chain(std::mem::take(&mut self.left_behind)) {
            // Blocks: sends the reaper a message, or removes the cgroup's directory.
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

    /// The remaining processes that hold the output open.
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

    /// Resource usage of all commands so far.
    fn usage(&self) -> Usage {
        let (before, own) = (self.used_before.0, self.exit.map(|exit| exit.usage).unwrap_or_default());
        Usage {
            user_ms: before.user_ms + own.user_ms,
            system_ms: before.system_ms + own.system_ms,
            max_rss_kib: before.max_rss_kib.max(own.max_rss_kib),
        }
    }

    /// The number of processes left after a normal exit; at least one if they could not be counted.
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
        // The last processes of a pipeline may be about to exit.
        tokio::time::sleep(SETTLE).await;
        count(tree).await.unwrap_or_else(|error| {
            tracing::error!(job = %self.job, %error, "nobody can look whether a job left something running");
            1
        })
    }

    /// The outcome, once there is one.
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

/// Waits for a task, if there is one; its result is returned once. Cancel safe.
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
