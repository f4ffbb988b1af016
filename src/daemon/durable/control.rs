//! How a durable job handles control messages.

use bytes::Bytes;

use super::job::{DurableJob, PendingSnapshot};
use super::viewer::{Begin, Begins, ViewerCommand};
use super::viewers::ResponderRank;
use crate::answer;
use crate::auth::members_sign;
use crate::dispatcher::Message;
use crate::job::reply;
use crate::policy::{self, Access};
use crate::request::Request;
use crate::request_summary::{ControlSummary, RequestSummary};
use peerbus_protocol::attach::{AttachFrom, AttachRequest, LOOP, Within};
use peerbus_protocol::control::{CancelRequest, Cancelled, Control, Credit, Resume};
use peerbus_protocol::ending::Refusal;
use peerbus_protocol::exec::{JobResult, StreamTotal};
use peerbus_protocol::frame::{Accepted, FrameKind, JobState, OUTPUT_MAX, StdinCredit};
use peerbus_protocol::identity::Principal;
use peerbus_protocol::send_buffer::StreamOffsets;
use peerbus_protocol::stdin::{WINDOW, WINDOW_OF_OTHERS};
use peerbus_protocol::tty::TtySize;
use peerbus_protocol::{Ending, decode};
use peerbus_shim::ToShim;
use peerbus_shim::messages::ScreenSnapshot;

/// Messages that may wait for the job to start.
const WAITING_MOST: usize = 64;

/// How a client attaches.
pub(super) struct AttachMode {
    /// Whether it also writes.
    pub(super) write: bool,
    /// Whether it wants every frame signed.
    sealed: bool,
    /// Its rank as responder.
    pub(super) seat: ResponderRank,
    /// The job that the client runs in, if any.
    pub(super) within: Option<Within>,
}

impl DurableJob {
    pub(super) async fn on_message(&mut self, message: Message) {
        let begins = matches!(
            message,
            Message::Request(_)
                | Message::Word {
                    steer: Control::Resume(_) | Control::Attach(_) | Control::Rename(_) | Control::Detach(_),
                    ..
                }
        );
        if begins && !self.runs && self.ended.is_none() {
            // Answered once it is known whether the job runs. If there is no room, the client retries.
            if self.waiting.len() < WAITING_MOST {
                self.waiting.push(message);
            }
            return;
        }
        match message {
            Message::CallerGone(Some(number)) => self.viewers.drop_number(number),
            Message::CallerGone(None) => {}
            Message::Request(request) => self.on_request(*request).await,
            Message::Word { steer, from, principal, fresh, .. } => {
                self.on_word(steer, &from, (&principal, fresh)).await
            }
        }
    }

    /// Loads the ending from a closed record.
    pub(super) fn has_ended(&mut self, result: JobResult) {
        self.runs = true;
        let totals = |total: &Option<StreamTotal>| total.as_ref().map_or(0, |it| it.bytes);
        let totals = StreamOffsets { out: totals(&result.out), err: totals(&result.err) };
        let result = std::sync::Arc::new(result);
        self.ended = Some(std::sync::Arc::clone(&result));
        self.news.send_modify(|news| (news.totals, news.ended) = (totals, Some(result)));
    }

    /// Handles the request, for the first time or repeated.
    async fn on_request(&mut self, request: Request) {
        if let Some(ticket) = &request.queued {
            return ticket.settle(&self.context, self.id).await;
        }
        if request.digest != self.begun.request {
            return self.refuse(&request).await;
        }
        if let Some(result) = self.ended.clone().filter(|result| never_ran(result)) {
            return reply(&self.context, &request, &result).await;
        }
        let Some(stream) = request.exec.stream else {
            return answer::started(&self.context, &request.caller, self.id).await;
        };
        let inbox = &request.caller;
        if self.has_left(inbox, 1, StreamOffsets::default()).await {
            return;
        }
        let accepted = self.accepted(inbox);
        if self.viewers.epoch_of(inbox).is_some() && self.viewers.say(inbox, ViewerCommand::Again(accepted)) {
            return;
        }
        // A replayed recording of the request must not reveal what the command has printed since.
        let text = request.signed.as_ref().map(|signed| signed.challenge());
        let freshness = &self.context.freshness;
        if let Some(text) = text
            && std::mem::replace(&mut self.caller_came, true)
            && !freshness.answers(self.id, inbox, text)
        {
            let challenge = freshness.challenge(self.id, inbox);
            return answer::challenged(&self.context, inbox, self.id, challenge).await;
        }
        let first = self.first_want(inbox, request.exec.stdin);
        let at = Begins::At(StreamOffsets::default());
        let seat = self.seat_for(inbox, 1, false);
        let within = request.exec.within.first().cloned();
        let manner = AttachMode { write: true, sealed: false, seat, within };
        self.begin_viewer(inbox, (1, at, stream.window), first, manner).await;
    }

    async fn refuse(&self, request: &Request) {
        let message = format!("{}: the id belongs to another request", request.id);
        let ending = Ending::Refused { why: Refusal::NotYours, message };
        let context = &self.context;
        RequestSummary::by(context, request).refused(&context.audit, &ending).await;
        reply(context, request, &self.bare(ending)).await;
    }

    async fn on_word(&mut self, steer: Control, from: &str, (principal, fresh): (&Principal, bool)) {
        // Check every message: the policy may have changed since the last one.
        let access = needed(&steer).filter(|_| fresh || !matches!(steer, Control::Credit(_)));
        if let Some(access) = access
            && let Err(why) = policy::may_attach(&self.context, principal, &self.owner, access)
        {
            return self.on_denied(&steer, from, principal, &why).await;
        }
        // If members sign, the signature proves that the inbox belongs to the sender.
        let may_stop = from == self.begun.caller || policy::may_steer(principal, Some(&self.owner));
        match steer {
            Control::Credit(credit) => self.on_credit(credit, from, (principal, fresh)).await,
            Control::Resume(resume) => self.on_resume(&resume, from, principal).await,
            Control::Attach(attach) => self.on_attach(attach, from, principal).await,
            Control::Rename(rename) => self.on_rename(rename, from, principal).await,
            Control::Detach(detach) => self.on_detach(detach, from, principal).await,
            Control::Stdin { .. } | Control::Resize(_) => self.on_input(steer, from, principal).await,
            _ if !may_stop => {
                let owned = (self.id, Some(&self.owner));
                answer::not_yours(&self.context, owned, &steer, (from, principal)).await;
            }
            Control::Cancel(cancel) => self.on_cancel(cancel, from, principal).await,
            Control::Release(_) => self.shim.say(ToShim::Release {}),
            Control::Result => self.on_result_wanted(from).await,
            Control::Signal(_) => self.on_input(steer, from, principal).await,
        }
    }

    /// Detaches a client that has no permission, or no longer has it. It gets no further output.
    async fn on_denied(&mut self, word: &Control, from: &str, principal: &Principal, why: &str) {
        let wrote = self.viewers.may_write(from) == Some(true) && from != self.begun.caller;
        self.viewers.let_go(from);
        self.screens.retain(|_, coming| coming.inbox != from);
        if wrote {
            self.forget_writer(from);
        }
        tracing::warn!(job = %self.id, %principal, why, "refused a word about a job");
        self.tell_refused(word, from, principal, why).await;
        answer::cannot(&self.context, from, "not_yours", 403, why).await;
    }

    /// Says in the audit log what somebody may not do with the job.
    async fn tell_refused(&self, word: &Control, from: &str, principal: &Principal, why: &str) {
        self.context.audit.control_refused((self.id, Some(&self.owner)), word, (from, principal), why).await;
    }

    async fn on_credit(&mut self, credit: Credit, from: &str, (principal, fresh): (&Principal, bool)) {
        let wrote = self.viewers.may_write(from) == Some(true) && from != self.begun.caller;
        // Credit that belongs to no live attachment changes nothing.
        let is_there = fresh && self.viewers.say(from, ViewerCommand::Credit(credit));
        if credit.done && fresh {
            self.viewers.let_go(from);
            if wrote {
                self.forget_writer(from);
            }
        }
        // If members sign, an unsigned message must not make the job send anything.
        let signed = *principal != Principal::Anyone && policy::may_steer(principal, Some(&self.owner));
        let counts = signed || !members_sign(&self.context);
        let follows = is_there || self.viewers.nonce_of(from).is_some();
        if follows || credit.done || !counts {
            return;
        }
        // The viewer belonged to an earlier daemon or was dropped. Tell it to resume.
        answer::have_resumed(&self.context, from, self.id, credit.epoch).await;
    }

    async fn on_resume(&mut self, resume: &Resume, from: &str, principal: &Principal) {
        let Resume { epoch, out, err, limit, write, sealed, .. } = *resume;
        let within = resume.within.first().cloned();
        let received = StreamOffsets { out, err };
        if self.has_left(from, epoch, received).await {
            return;
        }
        let window = limit.saturating_sub(received.sum());
        let write = write || from == self.begun.caller;
        let first = self.first_want(from, write);
        let word = ViewerCommand::Resume {
            epoch,
            received,
            window,
            accepted: self.accepted(from),
            first: first.clone(),
        };
        if self.viewers.say(from, word) {
            return;
        }
        // A resume of one's own job is no new attachment.
        if !policy::is_own(principal, &self.owner) {
            self.tell_attached(from, principal, write).await;
        }
        let seat = self.seat_for(from, epoch, false);
        let manner = AttachMode { write, sealed, seat, within };
        self.begin_viewer(from, (epoch, Begins::At(received), window), first, manner).await;
    }

    async fn on_attach(&mut self, attach: AttachRequest, from: &str, principal: &Principal) {
        if self.has_left(from, attach.epoch, StreamOffsets::default()).await {
            return;
        }
        match self.viewers.epoch_of(from) {
            Some(known) if attach.epoch < known => return,
            Some(known) if attach.epoch == known => {
                // If the viewer has just left, the client retries.
                self.viewers.say(from, ViewerCommand::Again(self.accepted(from)));
                return;
            }
            _ => {}
        }
        if self.ended.is_none() && self.context.running_jobs.leads_back(self.id, &attach.within) {
            let sentence = format!(
                "{} would show itself: PEERBUS_JOB says that this is asked from within it, or from within a job that it \
                 shows",
                self.id
            );
            return answer::cannot(&self.context, from, LOOP, 409, &sentence).await;
        }
        self.tell_attached(from, principal, attach.write).await;
        let totals = self.news.borrow().totals;
        let at = match attach.from {
            AttachFrom::Byte(at) => Begins::Byte(at),
            AttachFrom::Start => Begins::At(StreamOffsets::default()),
            AttachFrom::Screen if self.tty.is_some() && self.ended.is_none() => {
                return self.ask_for_screen(attach, from);
            }
            AttachFrom::Now | AttachFrom::Screen => Begins::At(totals),
        };
        let first = self.first_want(from, attach.write);
        let seat = self.seat_for(from, attach.epoch, false);
        let within = attach.within.into_iter().next();
        let manner = AttachMode { write: attach.write, sealed: attach.sealed, seat, within };
        self.begin_viewer(from, (attach.epoch, at, attach.window), first, manner).await;
    }

    /// Asks the shim for a snapshot. The viewer starts when the shim has answered. One request per inbox.
    fn ask_for_screen(&mut self, attach: AttachRequest, from: &str) {
        self.screens.retain(|_, coming| coming.inbox != from);
        if self.screens.len() >= WAITING_MOST {
            return;
        }
        let size = attach.tty.filter(|size| attach.write && size.check().is_ok());
        let seat = self.seat_for(from, attach.epoch, size.is_some());
        self.screens_asked += 1;
        self.screens.insert(self.screens_asked, PendingSnapshot { inbox: from.to_owned(), attach, seat });
        // The new writer answers the queries that the command sends after the resize.
        self.tell_asked();
        if let Some(size) = size {
            // The snapshot is rendered for the client's size. The viewer counts this resize as its first.
            self.shim.say(ToShim::Resize { from: from.to_owned(), n: 1, size });
        }
        self.shim.say(ToShim::Screen { ask: self.screens_asked });
    }

    pub(super) async fn on_screen(&mut self, screen: ScreenSnapshot) {
        let Some(PendingSnapshot { inbox: from, attach, seat }) = self.screens.remove(&screen.ask) else {
            return;
        };
        let ScreenSnapshot { at, mut data, size, error, .. } = screen;
        if let Some(error) = error {
            tracing::warn!(job = %self.id, error, "what a terminal shows is not known");
        }
        self.tty = size.or(self.tty);
        let mut first = Vec::new();
        while !data.is_empty() {
            first.push((FrameKind::Screen, data.split_to(data.len().min(OUTPUT_MAX / 2))));
        }
        first.extend(self.first_want(&from, attach.write));
        // A terminal has one output stream.
        let at = Begins::At(StreamOffsets { out: at, err: 0 });
        let within = attach.within.into_iter().next();
        let manner = AttachMode { write: attach.write, sealed: attach.sealed, seat, within };
        self.begin_viewer(&from, (attach.epoch, at, attach.window), first, manner).await;
    }

    async fn begin_viewer(
        &mut self,
        inbox: &str,
        (epoch, begins, window): (u64, Begins, u64),
        first: Vec<(FrameKind, Bytes)>,
        manner: AttachMode,
    ) {
        if self.viewers.epoch_of(inbox).is_none() && self.viewers.are_full() {
            let sentence = format!("too many read along with {}", self.id);
            return answer::cannot(&self.context, inbox, "limit", 429, &sentence).await;
        }
        let attachment = self.context.attach(self.id, inbox);
        let nonce = attachment.as_ref().map(|attachment| attachment.nonce().to_owned());
        let begin = Begin {
            context: std::sync::Arc::clone(&self.context),
            id: self.id,
            inbox: inbox.to_owned(),
            epoch,
            begins,
            window,
            sealed: manner.sealed,
            accepted: Accepted { nonce, ..self.accepted(inbox) },
            first,
            log: self.place.log(),
            news: self.news.subscribe(),
        };
        self.departed.comes(inbox);
        self.viewers.begin(begin, attachment, manner);
    }

    /// The current `accepted` frame, which starts an epoch. The viewer fills in where its output starts.
    pub(super) fn accepted(&self, inbox: &str) -> Accepted {
        let stdin_received = self.writers.want(inbox).map_or(0, |want| want.received);
        let signals = self.writers.signals(inbox);
        let state = if self.ended.is_some() { JobState::Ended } else { JobState::Running };
        let (tty, nonce, instance) = (self.tty, self.viewers.nonce_of(inbox), self.context.instance);
        let term = self.replaced_term.clone();
        Accepted {
            state,
            stdin_received,
            signals,
            durable: true,
            tty,
            term,
            nonce,
            ..Accepted::ended(instance)
        }
    }

    /// The first credit of a writer.
    fn first_want(&self, inbox: &str, write: bool) -> Vec<(FrameKind, Bytes)> {
        if !write || self.ended.is_some() {
            return Vec::new();
        }
        let want = self.writers.want(inbox).cloned().unwrap_or_else(|| self.grant(inbox));
        vec![(FrameKind::Want, decode::to_json(&want).into())]
    }

    /// A writer's credit before its shim has reported any: the amount that a shim always accepts.
    pub(super) fn grant(&self, inbox: &str) -> StdinCredit {
        let limit = if inbox == self.begun.caller { WINDOW } else { WINDOW_OF_OTHERS };
        StdinCredit { received: 0, limit, again: false, closed: false }
    }

    /// Passes input to the shim.
    async fn on_input(&mut self, steer: Control, from: &str, principal: &Principal) {
        // A client that may stop the job may signal it without attaching. If members sign, all other input needs an
        // attachment.
        let may_be_gone = from == self.begun.caller && !members_sign(&self.context);
        let unasked = may_be_gone || matches!(steer, Control::Signal(_));
        if self.departed.by(from).is_some() {
            // The message was in flight when its sender was detached.
            return;
        }
        if !self.viewers.may_write(from).unwrap_or(unasked) {
            let sentence = format!("{from} reads {} and does not write to it; attach with `write`", self.id);
            self.tell_refused(&steer, from, principal, &sentence).await;
            return answer::cannot(&self.context, from, "read_only", 403, &sentence).await;
        }
        match &steer {
            Control::Stdin { bytes, .. } if !bytes.is_empty() => {
                if self.viewers.types_first(from) {
                    self.tell(from, principal, ControlSummary::Typed).await;
                }
                self.is_active(from, false);
            }
            Control::Signal(signal) if signal.n > self.writers.signals(from) => {
                self.tell(from, principal, ControlSummary::Signal(&signal.signal)).await;
            }
            Control::Resize(_) => self.is_active(from, true),
            _ => {}
        }
        let from = from.to_owned();
        self.shim.say(match steer {
            Control::Stdin { offset, bytes } => ToShim::Stdin { from, offset, data: bytes },
            Control::Signal(signal) => ToShim::Signal { from, n: signal.n, signal: signal.signal },
            Control::Resize(resize) => {
                let size = TtySize { cols: resize.cols, rows: resize.rows };
                ToShim::Resize { from, n: resize.n, size }
            }
            _ => return,
        });
    }

    async fn on_cancel(&mut self, cancel: CancelRequest, from: &str, principal: &Principal) {
        let state = if self.ended.is_some() { Cancelled::Ended } else { Cancelled::Running };
        // A cancel without a reason only asks whether the request arrived. It does not cancel a job that starts
        // slowly.
        let takes_back = !self.runs && from == self.begun.caller && cancel.why.is_none();
        if self.ended.is_none() && !cancel.unless_begun && !takes_back {
            let why: String = cancel.why.unwrap_or_else(|| "asked to".to_owned()).chars().take(200).collect();
            // Record it once. The daemon repeats it to the shim on each new connection.
            if self.stopping.is_none() {
                self.tell(from, principal, ControlSummary::Stop(&why)).await;
                let ending = self.stopping.insert(Ending::Cancelled { why }).clone();
                self.shim.say(ToShim::Stop { ending });
                self.watchdog.begin();
            }
        }
        let result = self.ended.as_deref().cloned();
        answer::cancelled(&self.context, from, self.id, state, result).await;
    }

    /// Records a new attachment. A viewer that restarts is already recorded.
    async fn tell_attached(&self, from: &str, principal: &Principal, write: bool) {
        if self.viewers.epoch_of(from).is_none() {
            self.tell(
                from,
                principal,
                if write { ControlSummary::AttachToWrite } else { ControlSummary::AttachToRead },
            )
            .await;
        }
    }

    /// Records a control action in the audit log.
    pub(super) async fn tell(&self, from: &str, principal: &Principal, what: ControlSummary<'_>) {
        self.context.audit.steered(what.by(self.id, from, principal, Some(&self.owner))).await;
    }

    async fn on_result_wanted(&mut self, from: &str) {
        match self.ended.clone() {
            Some(result) => answer::plain(&self.context, from, &result, None).await,
            None => {
                let sentence = format!("{} has not ended", self.id);
                answer::cannot(&self.context, from, "running", 409, &sentence).await;
            }
        }
    }
}

/// The access that a control message needs. A client that may stop a job needs neither read nor write for that.
fn needed(steer: &Control) -> Option<Access> {
    match steer {
        Control::Attach(attach) if attach.write => Some(Access::Write),
        Control::Resume(resume) if resume.write => Some(Access::Write),
        Control::Attach(_) | Control::Resume(_) | Control::Credit(_) => Some(Access::Read),
        Control::Stdin { .. } | Control::Resize(_) | Control::Rename(_) | Control::Detach(_) => {
            Some(Access::Write)
        }
        Control::Signal(_) | Control::Cancel(_) | Control::Release(_) | Control::Result => None,
    }
}

/// A task may have run some steps before one could not start. Then there is output to read.
fn never_ran(result: &JobResult) -> bool {
    let bytes = |total: &Option<StreamTotal>| total.as_ref().map_or(0, |total| total.bytes);
    let nothing = bytes(&result.out) == 0 && bytes(&result.err) == 0;
    nothing && matches!(result.ending, Ending::NotStarted { .. } | Ending::Refused { .. })
}
