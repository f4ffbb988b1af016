//! The end of a durable job: determines the ending and records it.

use std::sync::Arc;

use super::job::DurableJob;
use super::shim_handle::{self, Cleared, Known, ShimHandle};
use crate::context::ShutdownPhase;
use crate::job::blocking;
use peerbus_process::StartError;
use peerbus_protocol::Ending;
use peerbus_protocol::ending::StartFailure;
use peerbus_protocol::exec::JobResult;
use peerbus_shim::JobEnd;

impl DurableJob {
    /// Ends the job because nothing of it could start.
    pub(super) async fn not_started(&mut self, error: StartError) {
        // A client that stopped the job before it started gets that ending.
        let ending = self.stopping.take().unwrap_or_else(|| error.ending());
        self.finish(self.bare(ending)).await;
    }

    /// Ends the job by what is known of its lost shim.
    pub(super) async fn conclude(&mut self, known: Known) {
        let result = match known {
            Known::Ended(ended) => {
                self.runs = true;
                self.counted(&ended)
            }
            Known::Died { why, cleared } => {
                self.runs = true;
                let why = self.watchdog.verdict().unwrap_or_else(|| format!("its shim died: {why}"));
                self.cleared(cleared, why)
            }
            // A missing job directory does not prove that the command never ran: the directory was removed.
            Known::NeverStarted if self.runs || self.was_started => {
                let cleared = shim_handle::clear(&self.place, self.begun.job_scope.as_ref()).await;
                self.cleared(
                    cleared,
                    format!("{} was taken away while it ran", self.place.directory().display()),
                )
            }
            Known::NeverStarted => {
                let message = "its daemon died before it was started; nothing ran".to_owned();
                self.bare(Ending::NotStarted { why: StartFailure::System, message })
            }
            // The shim is alive, so nothing has ended.
            Known::Alive(_) => return,
        };
        self.finish(result).await;
    }

    pub(super) fn bare(&self, ending: Ending) -> JobResult {
        JobResult::bare(Some(self.id), self.context.peer().clone(), self.begun.instance, ending)
    }

    fn cleared(&self, Cleared { killed, left }: Cleared, why: String) -> JobResult {
        JobResult { killed, left_running: left, ..self.bare(Ending::Unknown { why }) }
    }

    fn counted(&self, ended: &JobEnd) -> JobResult {
        JobResult {
            out: Some(ended.out.clone()),
            err: Some(ended.err.clone()),
            duration_ms: ended.duration_ms,
            killed: ended.killed,
            forced: ended.forced,
            left_running: ended.left_running,
            hung: ended.hung.clone(),
            output_open: ended.output_open,
            held_by: ended.held_by.clone(),
            output_cut: ended.output_cut.clone(),
            rusage: ended.rusage,
            ..self.bare(ended.ending.clone())
        }
    }

    /// Records the ending, then reports it.
    async fn finish(&mut self, result: JobResult) {
        self.shim = ShimHandle::Gone;
        self.watchdog.end();
        // Counted before the check below, so that the journal is not closed in between.
        let context = Arc::clone(&self.context);
        let _finishing = context.finishing.enter();
        if *self.context.leaving.borrow() == ShutdownPhase::Closing {
            // The journal is closed. The next daemon records the ending.
            return;
        }
        if !self.told {
            self.asked.ended(&context.audit, &result).await;
        }
        let ns = result.duration_ms.saturating_mul(1_000_000);
        context.count(|counts| counts.processing_ns = counts.processing_ns.saturating_add(ns));
        if let Some(entry) = self.entry.take() {
            let ended = result.clone();
            if let Err(error) = blocking(move || entry.ended(&ended)).await {
                tracing::error!(job = %self.id, %error, "writing the end to the journal");
            }
        }
        (self.seat, self.enrolled) = (None, None);
        context.tidy.notify_one();
        let result = Arc::new(result);
        self.ended = Some(Arc::clone(&result));
        self.screens.clear();
        self.news.send_modify(|news| {
            if let (Some(out), Some(err)) = (&result.out, &result.err) {
                (news.totals.out, news.totals.err) = (out.bytes, err.bytes);
            }
            news.ended = Some(result);
        });
        self.let_in().await;
    }
}
