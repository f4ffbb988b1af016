//! Handles the peer's messages.

use super::*;
use crate::exec::recv_window::Rejected;
use crate::verify;
use peerbus_protocol::attach::{Detached, LOOP, UNREADABLE};
use peerbus_protocol::ending::Refusal;
use peerbus_protocol::frame::Challenge;
use peerbus_protocol::reply::ErrorBody;
use peerbus_protocol::signature::REFUSES;

/// Most bytes that redraw a terminal: more than the largest screen needs with its own colors in every
/// cell.
const SCREEN_MOST: usize = 64 << 20;

/// Most events about responders and sizes in one epoch.
const BESIDE_MOST: u64 = 100_000;

impl Driver {
    pub(super) async fn on_message(&mut self, message: &Incoming, now: Instant) {
        if self.outcome.is_some() {
            // The result's totals do not include anything after it.
            return;
        }
        if self.refuses_another(message) {
            // Its frames use the same numbers as ours, so our next frames would look stale.
            tracing::warn!(peer = %self.peer, "ignored the refusal of something that somebody else said");
            return;
        }
        let Some(Ok(kind)) = message.headers.get(frame::KIND).map(str::parse::<FrameKind>) else { return };
        if self.relies_on(kind)
            && let Err(why) = verify::is_of(&self.bus, &self.peer, message)
        {
            tracing::warn!(peer = %self.peer, %kind, why, "ignored what is not proved to be the peer's");
            return;
        }
        match kind {
            FrameKind::Answer => return self.on_answer(message, now),
            FrameKind::Challenge => return self.on_challenge(message, now),
            _ => {}
        }
        let numbers = (message.headers.number(frame::EPOCH), message.headers.number(frame::SEQ));
        let (Some(epoch), Some(seq)) = numbers else { return };
        match self.recv_window.order(epoch, seq) {
            SequenceCheck::Stale => {}
            SequenceCheck::Lost => self.resume(now, "a frame is missing"),
            SequenceCheck::Next => {
                if let Phase::Streaming { heard } = &mut self.phase {
                    *heard = now;
                }
                self.on_frame(kind, message, now).await;
            }
        }
    }

    pub(super) async fn on_frame(&mut self, kind: FrameKind, message: &Incoming, now: Instant) {
        match kind {
            FrameKind::Accepted => self.with(message, now, Self::on_accepted),
            FrameKind::Out => self.on_output(StreamKind::Out, message, now),
            FrameKind::Err => self.on_output(StreamKind::Err, message, now),
            FrameKind::Want => self.with(message, now, Self::on_want),
            FrameKind::Signalled => self.with(message, now, Self::on_signalled),
            FrameKind::Resized => self.with(message, now, Self::on_resized),
            FrameKind::Screen => self.on_screen(&message.payload),
            FrameKind::Asked => {
                self.with(message, now, |this, asked, _| this.tell_beside(Event::Asked(asked)))
            }
            FrameKind::Sized => {
                self.with(message, now, |this, sizes, _| this.tell_beside(Event::Sized(sizes)))
            }
            FrameKind::Detached => self.with(message, now, Self::on_detached),
            FrameKind::Gap => self.with(message, now, Self::on_gap),
            FrameKind::Result => {
                let is_refusal = message.headers.get(REFUSES).is_some();
                self.with(message, now, |this, result, _| this.on_result(result, is_refusal));
            }
            FrameKind::Alive => self.with(message, now, Self::on_alive),
            FrameKind::End | FrameKind::Answer | FrameKind::Challenge => {}
        }
        self.send_stdin(now).await;
    }

    /// Decodes a frame's body; a malformed one counts as lost.
    pub(super) fn with<T: serde::de::DeserializeOwned>(
        &mut self,
        message: &Incoming,
        now: Instant,
        then: impl FnOnce(&mut Self, T, Instant),
    ) {
        match decode::json(&message.payload) {
            Ok(body) => then(self, body, now),
            Err(bad) => self.resume(now, &format!("a frame is malformed: {bad}")),
        }
    }

    pub(super) fn on_accepted(&mut self, accepted: Accepted, now: Instant) {
        self.durable |= accepted.durable;
        let begins = matches!(self.phase, Phase::Asking(_) | Phase::Withdrawing(_));
        if self.looks_at_a_screen() || (begins && self.instance.is_none()) {
            self.recv_window.begin_at(accepted.from.unwrap_or_default());
        }
        if let Phase::Resuming { since, asked, .. } = self.phase {
            let received = self.recv_window.received();
            self.resumed = Some(Resumed { since, asked, at: now, received });
        }
        match self.phase {
            // Also covers a first `accepted` that was lost and repeated after a resume.
            _ if self.instance.is_none() => self.tell(Event::Accepted(accepted.clone())),
            Phase::Resuming { .. } => self.tell(Event::Resumed),
            _ => {}
        }
        self.instance = Some(accepted.instance);
        // The peer redraws the terminal once per epoch.
        (self.screen_bytes, self.beside) = (0, 0);
        (self.nonce, self.challenge) = (accepted.nonce.or(self.nonce.take()), None);
        self.phase = Phase::Streaming { heard: now };
        self.feed.release(accepted.stdin_received);
        self.feed.rewind();
        self.signals.retain(|signal| signal.n > accepted.signals);
        self.say_again = now;
    }

    pub(super) fn on_output(&mut self, stream: StreamKind, message: &Incoming, now: Instant) {
        let Some(offset) = message.headers.number(frame::OFFSET) else {
            return self.resume(now, "a frame of output has no offset");
        };
        let at = self.recv_window.received().sum();
        match self.recv_window.output(stream, offset, &message.payload) {
            Ok(Some(bytes)) => self.tell(Event::Output { stream, at, bytes }),
            Ok(None) => {}
            Err(Rejected::Lost) => self.resume(now, "output is missing"),
            Err(Rejected::Beyond) => self.beyond(),
        }
    }

    /// Stops the execution: a peer that ignores its credit could fill our memory, even if our reader is
    /// slow.
    fn beyond(&mut self) {
        let why = format!("{} sent more than it was granted; nothing more is taken from it", self.peer);
        // Log now, because the reader may take long to reach the end.
        tracing::warn!(job = %self.job, "{why}");
        self.finish(Ending::Unknown { why });
    }

    /// Sends an event beside the output, which no credit limits.
    fn tell_beside(&mut self, event: Event) {
        self.beside += 1;
        match self.beside > BESIDE_MOST {
            true => self.beyond(),
            false => self.tell(event),
        }
    }

    fn on_screen(&mut self, bytes: &Bytes) {
        self.screen_bytes += bytes.len();
        match self.screen_bytes > SCREEN_MOST {
            true => self.beyond(),
            false => self.tell(Event::Screen(bytes.clone())),
        }
    }

    /// For a viewer, this output is no longer kept; for the caller that started the job, it is lost.
    fn on_gap(&mut self, gap: Gap, _now: Instant) {
        match self.question {
            Start::Exec { .. } => self.recv_window.gap(gap),
            Start::Attach(_) => match self.recv_window.not_kept(&gap) {
                0 => {}
                bytes => self.tell(Event::NotKept { stream: gap.stream, bytes }),
            },
        }
    }

    pub(super) fn on_want(&mut self, want: StdinCredit, now: Instant) {
        if self.feed.want(&want) {
            self.say_again = now + SAY_AGAIN;
        }
    }

    pub(super) fn on_signalled(&mut self, signalled: Signalled, _now: Instant) {
        self.signals.retain(|signal| signal.n > signalled.n);
    }

    /// Each step of a task can wait for its output.
    fn on_alive(&mut self, alive: Alive, _now: Instant) {
        let waited = std::mem::replace(&mut self.waits, alive.waiting.is_some());
        self.released &= self.waits;
        if let Some(holders) = alive.waiting.filter(|_| !waited) {
            self.tell(Event::Waiting(holders));
        }
    }

    /// Someone detached us; the peer has already dropped us.
    fn on_detached(&mut self, detached: Detached, _now: Instant) {
        self.left = true;
        self.left_by = Some(detached.by);
    }

    fn on_resized(&mut self, resized: Signalled, _now: Instant) {
        self.resize = self.resize.filter(|resize| resize.n > resized.n);
    }

    pub(super) fn on_result(&mut self, result: JobResult, is_refusal: bool) {
        if !self.is_ours(&result, is_refusal) {
            tracing::warn!(peer = %self.peer, "ignored an ending that is not this request's");
            return;
        }
        let integrity = self.recv_window.compare(&result);
        self.outcome = Some(Completion { ending: result.ending.clone(), result: Some(result), integrity });
    }

    /// Whether this refuses another sender's message: a refusal names the signature of the refused
    /// message.
    fn refuses_another(&self, message: &Incoming) -> bool {
        let ours = |refused: &str| self.signatures.iter().any(|signature| signature == refused);
        self.bus.member().is_some() && message.headers.get(REFUSES).is_some_and(|refused| !ours(refused))
    }

    /// Whether a result belongs to our request, not to another message under the same id.
    fn is_ours(&self, result: &JobResult, is_refusal: bool) -> bool {
        let unread =
            matches!(result.ending, Ending::Refused { why: Refusal::Unproven | Refusal::BadRequest, .. });
        self.bus.member().is_none() || is_refusal || (!unread && result.id == Some(self.job))
    }

    /// Handles the answer to a cancel. A running job's ending arrives as frames.
    pub(super) fn on_answer(&mut self, message: &Incoming, now: Instant) {
        let Ok(answer) = decode::json::<CancelAnswer>(&message.payload) else {
            if let Ok(refusal) = decode::json::<ErrorBody>(&message.payload)
                && refusal.error == UNREADABLE
            {
                // The peer can send nothing further, so a retry is useless.
                return self.finish(Ending::Unknown { why: refusal.message });
            }
            if let Ok(refusal) = decode::json::<ErrorBody>(&message.payload)
                && refusal.error == "not_yours"
            {
                // The peer denies us this job, so stop following it.
                return self.on_attach_refused(refusal);
            }
            if let (Start::Attach(_), Phase::Asking(_)) = (&self.question, &self.phase)
                && let Ok(refusal) = decode::json::<ErrorBody>(&message.payload)
            {
                return self.on_attach_refused(refusal);
            }
            tracing::debug!(answer = ?message.payload, "an answer that is none to a cancel");
            return;
        };
        if answer.id != self.job || !matches!(self.phase, Phase::Withdrawing(_)) {
            return;
        }
        if answer.answer != Cancelled::NeverSeen {
            return self.resume(now, "the job is known after all");
        }
        let ending = match self.cancel.take() {
            Some(why) => Ending::Cancelled { why },
            None => Ending::NotStarted {
                why: StartFailure::NeverArrived,
                message: format!("the request never reached {}; it was not run", self.peer),
            },
        };
        self.finish(ending);
    }

    fn on_attach_refused(&mut self, refusal: ErrorBody) {
        let why = match refusal.error.as_str() {
            "unknown_job" => Refusal::NoSuchJob,
            "not_durable" => Refusal::NotDurable,
            "not_yours" => Refusal::NotYours,
            "unproven" => Refusal::Unproven,
            LOOP => Refusal::Loop,
            "limit" => Refusal::Limit,
            "journal" => Refusal::Journal,
            _ => Refusal::BadRequest,
        };
        self.finish(Ending::Refused { why, message: refusal.message });
    }

    /// The peer cannot exclude a replay of our last message: sign it again over the challenge.
    fn on_challenge(&mut self, message: &Incoming, now: Instant) {
        let Ok(challenge) = decode::json::<Challenge>(&message.payload) else { return };
        if challenge.id != self.job || self.challenge.as_ref() == Some(&challenge.challenge) {
            return;
        }
        self.challenge = Some(challenge.challenge);
        match &mut self.phase {
            Phase::Asking(repeats) | Phase::Withdrawing(repeats) => repeats.again_at_once(now),
            Phase::Resuming { next, .. } => *next = now,
            Phase::Streaming { .. } => self.say_again = now,
        }
    }

    /// The last message found no subscriber.
    pub(super) fn on_absent(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Asking(repeats) if !self.may_have_arrived => {
                let settling = self.link.generation > 1 && now < self.link_since + SETTLING;
                if settling || now < self.absent_until {
                    repeats.retry_at(now + TRY_ABSENT_AGAIN);
                } else {
                    self.finish(Ending::Offline {});
                }
            }
            Phase::Streaming { .. } => self.resume(now, "the peer is not on the bus"),
            // These phases retry and give up by their own timers.
            Phase::Asking(_) | Phase::Withdrawing(_) | Phase::Resuming { .. } => {}
        }
    }
}
