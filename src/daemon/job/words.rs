//! What a running job does with the words of its caller.

use std::time::Instant;

use super::super::answer;
use super::super::asked::Asked;
use super::super::exec::Request;
use super::super::intake::Message;
use super::super::policy;
use super::super::proof::{is_anothers, members_sign};
use super::live::Live;
use super::reply;
use crate::process::Signal;
use crate::protocol::Ending;
use crate::protocol::decode;
use crate::protocol::ending::Refusal;
use crate::protocol::exec::JobResult;
use crate::protocol::frame::{FrameKind, Signalled};
use crate::protocol::identity::Asker;
use crate::protocol::steer::{CancelRequest, Cancelled, Credit, Resume, SignalRequest, Steer};

impl Live {
    pub(super) async fn on_message(&mut self, message: Message) {
        match message {
            Message::CallerGone => self.on_caller_gone(),
            Message::Request(request) => self.on_repeat(*request).await,
            Message::Word { steer, from, asker } => self.on_word(steer, &from, &asker).await,
        }
    }

    fn on_caller_gone(&mut self) {
        if let Some(stream) = self.sink.as_stream() {
            stream.muted = true;
            self.timing.caller_gone(Instant::now());
        }
    }

    /// The caller is there: its word renews the right to answer it.
    fn heard(&mut self) {
        self.timing.heard(Instant::now());
        if let Some(stream) = self.sink.as_stream() {
            stream.muted = false;
        }
    }

    /// The same request again gets the running job; another under its id is refused.
    async fn on_repeat(&mut self, request: Request) {
        if request.digest != self.request.digest {
            return self.refuse(&request, "the id belongs to another request, which runs").await;
        }
        let accepted = self.accepted();
        match &mut self.sink {
            super::sink::Sink::Plain(plain) => {
                if !plain.wait(&request.caller) {
                    self.too_many_wait(&request.caller).await;
                }
            }
            super::sink::Sink::Stream(stream) if request.caller == self.request.caller => {
                stream.show_again(accepted);
                self.heard();
            }
            super::sink::Sink::Stream(_) => match &self.ended {
                Some(result) => reply(&self.context, &request, result).await,
                None => self.refuse(&request, "the job runs for another caller").await,
            },
        }
    }

    async fn too_many_wait(&self, caller: &str) {
        let sentence =
            format!("too many wait for the answer of {}; ask again for its result", self.request.id);
        answer::cannot(&self.context, caller, "limit", 429, &sentence).await;
    }

    async fn refuse(&self, request: &Request, why: &str) {
        let ending = Ending::Refused { why: Refusal::NotYours, message: format!("{}: {why}", request.id) };
        let context = &self.context;
        Asked::by(context, request).refused(&context.audit, &ending).await;
        let result = JobResult::bare(Some(request.id), context.peer().clone(), context.instance, ending);
        reply(context, request, &result).await;
    }

    async fn on_word(&mut self, steer: Steer, from: &str, asker: &Asker) {
        // Who has the right may stop a job and ask how it ended; the rest is its caller's.
        let may_steer = from == self.request.caller || policy::may_steer(asker, Some(&self.request.asker));
        match steer {
            Steer::Cancel(_) | Steer::Result if !may_steer => {
                return answer::not_yours(&self.context, from, self.request.id).await;
            }
            Steer::Cancel(cancel) => return self.on_cancel(cancel, from).await,
            Steer::Result => return self.on_result_wanted(from).await,
            Steer::Credit(_) if from != self.request.caller && members_sign(&self.context) => return,
            _ if from != self.request.caller => {
                return answer::not_yours(&self.context, from, self.request.id).await;
            }
            _ => self.heard(),
        }
        match steer {
            Steer::Credit(credit) => self.on_credit(&credit),
            Steer::Resume(resume) => self.on_resume(&resume),
            Steer::Signal(signal) => self.on_signal(&signal),
            Steer::Stdin { offset, bytes } => {
                let want = self.stdin.take(offset, &bytes);
                self.sink.control(FrameKind::Want, decode::to_json(&want));
            }
            Steer::Cancel(_) | Steer::Result => {}
        }
    }

    fn on_credit(&mut self, credit: &Credit) {
        if let Some(stream) = self.sink.as_stream() {
            stream.outbox.credit(credit);
            self.done |= credit.done && self.over;
        }
    }

    fn on_resume(&mut self, resume: &Resume) {
        let accepted = self.accepted();
        let wants_stdin = self.request.exec.stdin;
        let Some(stream) = self.sink.as_stream() else { return };
        // The new epoch begins with its `accepted`, before anything that was no longer held.
        if !stream.outbox.resume(resume, accepted.clone().into()) {
            if resume.epoch == stream.outbox.epoch() {
                stream.show_again(accepted);
            }
            return;
        }
        if wants_stdin {
            self.tell_want();
        }
    }

    /// Applies each signal once, in whatever order and however often it is asked for.
    fn on_signal(&mut self, request: &SignalRequest) {
        let mut error = None;
        if request.n > self.signals {
            let Some(tree) = self.tree.as_ref().filter(|_| !self.over) else {
                // Not started yet: the caller asks again. Over: there is nothing to signal.
                return;
            };
            self.signals = request.n;
            error = match request.signal.parse::<Signal>() {
                Ok(signal) => {
                    self.signalled = Some(signal.number());
                    tracing::debug!(job = %self.request.id, signal = request.signal, "signalled");
                    tree.signal(signal).err().map(|error| error.to_string())
                }
                Err(bad) => Some(bad.to_string()),
            };
        }
        let signalled = Signalled { n: request.n, error };
        self.sink.control(FrameKind::Signalled, decode::to_json(&signalled));
    }

    async fn on_cancel(&mut self, cancel: CancelRequest, from: &str) {
        if from == self.request.caller {
            self.heard();
        }
        let state = if self.over { Cancelled::Ended } else { Cancelled::Running };
        let why = cancel.why.unwrap_or_else(|| "asked to".to_owned());
        self.stop(Ending::Cancelled { why: why.chars().take(200).collect() });
        answer::cancelled(&self.context, from, self.request.id, state, self.ended.clone()).await;
    }

    async fn on_result_wanted(&mut self, from: &str) {
        if is_anothers(&self.context, from, &self.request.caller) {
            return answer::not_yours(&self.context, from, self.request.id).await;
        }
        if let Some(result) = &self.ended {
            return answer::plain(&self.context, from, result, None).await;
        }
        match &mut self.sink {
            super::sink::Sink::Plain(plain) => {
                if !plain.wait(from) {
                    self.too_many_wait(from).await;
                }
            }
            super::sink::Sink::Stream(_) => {
                let sentence = format!("{} has not ended", self.request.id);
                answer::cannot(&self.context, from, "running", 409, &sentence).await;
            }
        }
    }
}
