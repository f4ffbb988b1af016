//! The end of a job: detects it, records it and reports it.

use std::time::Instant;

use super::blocking;
use super::output::Output;
use super::runner::Runner;
use crate::answer;
use peerbus_process::{CommandOutcome, OutputReader};
use peerbus_protocol::decode;
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::reply;

impl Runner {
    /// Records the ending, then reports it.
    pub(super) async fn finish(&mut self, output_reader: OutputReader) {
        self.over = true;
        self.stdin.close();
        let output_open = !output_reader.are_dry();
        tokio::spawn(output_reader.drain());
        let outcome = self.lifecycle.close(output_open).await;
        self.place = None;
        let result = self.result(outcome);
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

    fn result(&self, outcome: CommandOutcome) -> JobResult {
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
        let peer = self.context.peer().clone();
        JobResult {
            out: Some(out),
            err: Some(err),
            duration_ms,
            killed,
            forced,
            left_running,
            hung,
            output_open,
            held_by,
            output_cut,
            rusage: Some(rusage),
            ..JobResult::bare(Some(self.request.id), peer, self.context.instance, ending)
        }
    }

    async fn log(&self, result: &JobResult) {
        self.asked.ended(&self.context.audit, result).await;
        let ns = result.duration_ms.saturating_mul(1_000_000);
        self.context.count(|counts| counts.processing_ns = counts.processing_ns.saturating_add(ns));
    }

    /// Sends the ending to all waiting clients.
    async fn tell(&mut self, result: JobResult) {
        match &mut self.sink {
            Output::Stream(stream) => {
                self.timing.over(Instant::now());
                stream.send_buffer.close(decode::to_json(&result).into());
            }
            Output::Plain(plain) => {
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
