//! The end of a job: when it has come, what it was, and who is told.

use std::time::{Duration, Instant};

use super::super::answer;
use super::blocking;
use super::live::Live;
use super::output::Taps;
use super::sink::Sink;
use crate::process::{self, ExitKind};
use crate::protocol::exec::{JobResult, Rusage, StreamTotal};
use crate::protocol::reply;
use crate::protocol::{Ending, decode};

/// How long processes that are just ending get before they count as left running.
const SETTLE: Duration = Duration::from_millis(50);

fn signal_name(number: i32) -> String {
    process::Signal::try_from(number).map_or_else(|_| number.to_string(), process::Signal::name)
}

impl Live {
    /// Over when the command has exited, its tree was stopped where that was asked for, and its
    /// output has ended, or is held open by a process that goes on and says nothing.
    pub(super) fn has_ended(&self, taps: &mut Taps) -> bool {
        if self.exit.is_none() || self.stop_task.is_some() {
            return false;
        }
        taps.are_dry()
            || (self.timing.output_had_its_time(Instant::now()) && taps.are_silent(self.sink.room()))
    }

    /// Writes the ending down, then tells it.
    pub(super) async fn finish(&mut self, taps: Taps) {
        self.over = true;
        self.stdin.close();
        let output_open = !taps.are_dry();
        taps.drain();
        let left_running = self.left_running().await;
        if let Some(tree) = self.tree.take() {
            // For a reaper this is a word on a socket; for a cgroup the removal of a directory.
            let _ = tokio::task::spawn_blocking(move || tree.release()).await;
        }
        self.place = None;
        let result = self.result(left_running, output_open);
        self.log(&result).await;
        self.ended = Some(result.clone());
        if let Some(entry) = self.entry.take() {
            let ended = result.clone();
            if let Err(error) = blocking(move || entry.ended(&ended)).await {
                tracing::error!(job = %self.request.id, %error, "writing the end to the journal");
            }
        }
        self.enrolled = None;
        self.tell(result).await;
    }

    /// Processes that go on after a normal end; one at least where nobody could look.
    async fn left_running(&self) -> u32 {
        let Some(tree) = self.tree.clone() else { return 0 };
        let count = move || tree.count();
        if let Ok(0) = blocking(count.clone()).await {
            return 0;
        }
        // The last of a pipeline may be on their way out.
        tokio::time::sleep(SETTLE).await;
        blocking(count).await.unwrap_or_else(|error| {
            tracing::error!(job = %self.request.id, %error, "nobody can look whether a job left something running");
            1
        })
    }

    fn ending(&self) -> Ending {
        match (self.exit.map(|exit| exit.status), &self.stopping) {
            (Some(ExitKind::Code(code)), None) => Ending::Exited { code },
            (Some(ExitKind::Signal(number)), None) => {
                Ending::Signalled { signal: signal_name(number), number }
            }
            (_, Some(ending)) => ending.clone(),
            (Some(ExitKind::Unknown) | None, None) => {
                Ending::Unknown { why: "what watched over it was killed".to_owned() }
            }
        }
    }

    fn result(&mut self, left_running: u32, output_open: bool) -> JobResult {
        let totals = self.sink.totals();
        let [out, err] = &self.digests;
        let total = |bytes, digest: &blake3::Hasher| StreamTotal {
            bytes,
            blake3: digest.finalize().to_hex().to_string(),
        };
        let usage = self.exit.map(|exit| exit.usage).unwrap_or_default();
        JobResult {
            out: Some(total(totals.out, out)),
            err: Some(total(totals.err, err)),
            duration_ms: self.timing.ran_for_ms(),
            killed: self.killed,
            left_running,
            output_open,
            rusage: Some(Rusage {
                user_ms: usage.user_ms,
                system_ms: usage.system_ms,
                max_rss_kib: usage.max_rss_kib,
            }),
            ..JobResult::bare(
                Some(self.request.id),
                self.context.peer().clone(),
                self.context.instance,
                self.ending(),
            )
        }
    }

    async fn log(&self, result: &JobResult) {
        self.asked.ended(&self.context.audit, result).await;
        let ns = result.duration_ms.saturating_mul(1_000_000);
        self.context.count(|counts| counts.processing_ns = counts.processing_ns.saturating_add(ns));
    }

    /// Tells the ending to whoever waits for it.
    async fn tell(&mut self, result: JobResult) {
        match &mut self.sink {
            Sink::Stream(stream) => {
                self.timing.over(Instant::now());
                stream.outbox.close(decode::to_json(&result).into());
            }
            Sink::Plain(plain) => {
                let collectors = plain.collectors.take();
                let waiting = std::mem::take(&mut plain.waiting);
                let limit = self.context.bus.max_payload();
                let message = reply::fitted(result.clone(), collectors.out, collectors.err, limit);
                let (journal, id, kept) = (self.context.journal.clone(), self.request.id, message.clone());
                if let Err(error) = blocking(move || journal.keep_result(id, &kept)).await {
                    tracing::error!(job = %id, %error, "keeping the answer to a plain request");
                }
                for caller in waiting {
                    answer::plain(&self.context, &caller, &result, Some(message.clone())).await;
                }
                self.done = true;
            }
        }
    }
}
