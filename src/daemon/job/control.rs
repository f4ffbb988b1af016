//! How a running job handles control messages.

use std::time::Instant;

use super::reply;
use super::runner::Runner;
use crate::answer;
use crate::auth::{is_anothers, members_sign};
use crate::dispatcher::Message;
use crate::policy;
use crate::request::Request;
use crate::request_summary::{ControlSummary, RequestSummary};
use peerbus_protocol::Ending;
use peerbus_protocol::control::{CancelRequest, Cancelled, Control, Credit, Resume, SignalRequest};
use peerbus_protocol::decode;
use peerbus_protocol::ending::Refusal;
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::frame::{FrameKind, Signalled};
use peerbus_protocol::identity::Principal;

/// Signals from other clients to remember, so that each is applied once.
const STRANGERS_REMEMBERED: usize = 64;

impl Runner {
    pub(super) async fn on_message(&mut self, message: Message) {
        match message {
            Message::CallerGone(_) => self.on_caller_gone(),
            Message::Request(request) => self.on_repeat(*request).await,
            Message::Word { for_another: true, .. } => {}
            Message::Word { steer, from, principal, .. } => self.on_word(steer, &from, &principal).await,
        }
    }

    fn on_caller_gone(&mut self) {
        if let Some(stream) = self.sink.as_stream() {
            stream.muted = true;
            self.timing.caller_gone(Instant::now());
        }
    }

    /// Records a message of the caller and lets the output flow again.
    fn heard(&mut self) {
        self.timing.heard(Instant::now());
        if let Some(stream) = self.sink.as_stream() {
            stream.muted = false;
        }
    }

    /// Attaches a repeat of the same request to the running job. Refuses a different request with the same id.
    async fn on_repeat(&mut self, request: Request) {
        if request.digest != self.request.digest {
            return self.refuse(&request, "the id belongs to another request, which runs").await;
        }
        if let Some(ticket) = &request.queued {
            return ticket.settle(&self.context, request.id).await;
        }
        let accepted = self.accepted();
        match &mut self.sink {
            super::output::Output::Plain(plain) => {
                if !plain.wait(&request.caller) {
                    self.too_many_wait(&request.caller).await;
                }
            }
            super::output::Output::Stream(stream) if request.caller == self.request.caller => {
                stream.show_again(accepted);
                self.heard();
            }
            super::output::Output::Stream(_) => match &self.ended {
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
        RequestSummary::by(context, request).refused(&context.audit, &ending).await;
        let result = JobResult::bare(Some(request.id), context.peer().clone(), context.instance, ending);
        reply(context, request, &result).await;
    }

    async fn on_word(&mut self, steer: Control, from: &str, principal: &Principal) {
        // A client with the steer right may stop a job and ask for its result. All else is reserved for the caller.
        let may_steer =
            from == self.request.caller || policy::may_steer(principal, Some(&self.request.principal));
        match steer {
            Control::Cancel(_)
            | Control::Release(_)
            | Control::Result
            | Control::Attach(_)
            | Control::Rename(_)
            | Control::Detach(_)
                if !may_steer =>
            {
                return self.refuse_word(&steer, from, principal).await;
            }
            Control::Cancel(cancel) => return self.on_cancel(cancel, from, principal).await,
            Control::Release(_) => return self.on_release(from),
            Control::Result => return self.on_result_wanted(from, principal).await,
            Control::Attach(_) | Control::Rename(_) | Control::Detach(_) => {
                return answer::not_durable(&self.context, from, self.request.id).await;
            }
            Control::Signal(signal) if from != self.request.caller && may_steer => {
                return self.on_anothers_signal(&signal, from, principal).await;
            }
            Control::Credit(_) if from != self.request.caller && members_sign(&self.context) => return,
            _ if from != self.request.caller => return self.refuse_word(&steer, from, principal).await,
            _ => self.heard(),
        }
        match steer {
            Control::Credit(credit) => self.on_credit(&credit),
            Control::Resume(resume) => self.on_resume(&resume),
            Control::Signal(signal) => self.on_signal(&signal, principal).await,
            Control::Stdin { offset, bytes } => {
                let want = self.stdin.take(offset, &bytes);
                self.sink.control(FrameKind::Want, decode::to_json(&want));
            }
            // Handled above, or meaningless for a job without a terminal.
            Control::Cancel(_) | Control::Release(_) | Control::Result | Control::Attach(_) => {}
            Control::Resize(_) | Control::Rename(_) | Control::Detach(_) => {}
        }
    }

    async fn refuse_word(&self, word: &Control, from: &str, principal: &Principal) {
        let owned = (self.request.id, Some(&self.request.principal));
        answer::not_yours(&self.context, owned, word, (from, principal)).await;
    }

    fn on_credit(&mut self, credit: &Credit) {
        if let Some(stream) = self.sink.as_stream() {
            stream.send_buffer.credit(credit);
            self.done |= credit.done && self.over;
        }
    }

    fn on_resume(&mut self, resume: &Resume) {
        let accepted = self.accepted();
        let wants_stdin = self.request.exec.stdin;
        let Some(stream) = self.sink.as_stream() else { return };
        // The new epoch starts with `accepted`, before any frame that the window now allows.
        if !stream.send_buffer.resume(resume, accepted.clone().into()) {
            if resume.epoch == stream.send_buffer.epoch() {
                stream.show_again(accepted);
            }
            return;
        }
        if wants_stdin {
            self.tell_want();
        }
        if self.waiting.is_some() {
            self.tell_alive();
        }
    }

    /// Applies each signal once, in any order and however often it is requested.
    async fn on_signal(&mut self, request: &SignalRequest, principal: &Principal) {
        let mut error = None;
        if request.n > self.signals {
            let Some(tried) = self.signal(&request.signal) else { return };
            self.signals = request.n;
            error = tried.err();
            self.tell_steered(&self.request.caller, principal, ControlSummary::Signal(&request.signal)).await;
        }
        let signalled = Signalled { n: request.n, error };
        self.sink.control(FrameKind::Signalled, decode::to_json(&signalled));
    }

    /// Applies a signal of a client that may stop the job but does not follow it. The answer goes to that client's
    /// inbox.
    async fn on_anothers_signal(&mut self, request: &SignalRequest, from: &str, principal: &Principal) {
        let known = self.strangers.iter().find(|(inbox, n, _)| inbox == from && *n >= request.n);
        let error = match known {
            Some((_, _, error)) => error.clone(),
            None => {
                let Some(tried) = self.signal(&request.signal) else { return };
                self.strangers.push_back((from.to_owned(), request.n, tried.clone().err()));
                self.strangers.drain(..self.strangers.len().saturating_sub(STRANGERS_REMEMBERED));
                self.tell_steered(from, principal, ControlSummary::Signal(&request.signal)).await;
                tried.err()
            }
        };
        answer::signalled(&self.context, from, &Signalled { n: request.n, error }).await;
    }

    /// Signals the whole process tree. Returns `None` if the command has not started, so that the caller repeats
    /// the request, or if it has ended, so that there is nothing to signal.
    fn signal(&mut self, name: &str) -> Option<Result<(), String>> {
        let runs = self.lifecycle.has_tree() && !self.over;
        runs.then(|| self.lifecycle.signal(name))
    }

    /// Records a control action in the audit log.
    async fn tell_steered(&self, from: &str, principal: &Principal, what: ControlSummary<'_>) {
        let line = what.by(self.request.id, from, principal, Some(&self.request.principal));
        self.context.audit.steered(line).await;
    }

    async fn on_cancel(&mut self, cancel: CancelRequest, from: &str, principal: &Principal) {
        if from == self.request.caller {
            self.heard();
        }
        let state = if self.over { Cancelled::Ended } else { Cancelled::Running };
        if cancel.unless_begun {
            let (context, id) = (&self.context, self.request.id);
            return answer::cancelled(context, from, id, state, self.ended.clone()).await;
        }
        let why: String = cancel.why.unwrap_or_else(|| "asked to".to_owned()).chars().take(200).collect();
        if !self.over && !self.stop_told {
            self.stop_told = true;
            self.tell_steered(from, principal, ControlSummary::Stop(&why)).await;
        }
        self.lifecycle.stop(Ending::Cancelled { why });
        answer::cancelled(&self.context, from, self.request.id, state, self.ended.clone()).await;
    }

    fn on_release(&mut self, from: &str) {
        if from == self.request.caller {
            self.heard();
        }
        self.lifecycle.release(Instant::now());
    }

    async fn on_result_wanted(&mut self, from: &str, principal: &Principal) {
        if is_anothers(&self.context, from, &self.request.caller) {
            return self.refuse_word(&Control::Result, from, principal).await;
        }
        if let Some(result) = &self.ended {
            return answer::plain(&self.context, from, result, None).await;
        }
        match &mut self.sink {
            super::output::Output::Plain(plain) => {
                if !plain.wait(from) {
                    self.too_many_wait(from).await;
                }
            }
            super::output::Output::Stream(_) => {
                let sentence = format!("{} has not ended", self.request.id);
                answer::cannot(&self.context, from, "running", 409, &sentence).await;
            }
        }
    }
}
