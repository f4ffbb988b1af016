//! Handles timers: repeats, credit, resumes and giving up.

use super::*;

impl Driver {
    pub(super) fn deadline(&self) -> Instant {
        if self.outcome.is_some() {
            // Only the output writer is still busy; no other timer applies.
            return self.credit_again;
        }
        let far = Instant::now() + CREDIT_EVERY;
        let phase = match &self.phase {
            _ if !self.link.up => far,
            Phase::Asking(repeats) | Phase::Withdrawing(repeats) => repeats.next(),
            Phase::Streaming { heard } => *heard + SILENCE,
            Phase::Resuming { since, next, .. } => (*next).min(*since + RESUME_FOR),
        };
        let mut deadline = phase.min(far);
        if matches!(self.phase, Phase::Streaming { .. }) {
            deadline = deadline.min(self.credit_again);
            if self.has_something_to_repeat() {
                deadline = deadline.min(self.say_again);
            }
        }
        deadline
    }

    pub(super) fn has_something_to_repeat(&self) -> bool {
        !self.signals.is_empty()
            || self.resize.is_some()
            || self.cancel.is_some()
            || self.released
            || self.feed.is_unconfirmed()
    }

    pub(super) async fn on_clock(&mut self, now: Instant) {
        if self.outcome.is_some() {
            return self.keep_the_peer_waiting(now).await;
        }
        match &mut self.phase {
            Phase::Asking(repeats) if self.link.up => match repeats.due(now) {
                TimerAction::Nothing => {}
                TimerAction::Again => self.ask().await,
                TimerAction::GiveUp => self.give_asking_up(now),
            },
            Phase::Withdrawing(repeats) if self.link.up => match repeats.due(now) {
                TimerAction::Nothing => {}
                TimerAction::Again => self.send_cancel().await,
                TimerAction::GiveUp => self.finish(Ending::Unknown {
                    why: format!("{} did not answer; the command may or may not have run", self.peer),
                }),
            },
            Phase::Asking(_) | Phase::Withdrawing(_) => {
                if now > self.link_since + RESUME_FOR {
                    self.finish(Ending::Unknown {
                        why: "the bus went away before an answer came".to_owned(),
                    });
                }
            }
            Phase::Streaming { heard } => {
                if now >= *heard + SILENCE {
                    self.resume(now, "the peer is silent");
                } else {
                    self.repeat_what_was_said(now).await;
                }
            }
            Phase::Resuming { .. } => {}
        }
        self.ask_to_resume(now).await;
    }

    /// Keeps the peer alive while the ending is known and output is still being written: the peer keeps
    /// the ending until it gets `done`.
    pub(super) async fn keep_the_peer_waiting(&mut self, now: Instant) {
        if now >= self.credit_again {
            self.send_credit(now).await;
        }
    }

    pub(super) async fn repeat_what_was_said(&mut self, now: Instant) {
        if now >= self.credit_again {
            self.send_credit(now).await;
        }
        if now < self.say_again || !self.has_something_to_repeat() {
            return;
        }
        self.say_again = now + SAY_AGAIN;
        for signal in self.signals.clone() {
            let signal = SignalRequest { instance: self.instance, ..signal };
            self.say(Verb::Signal, decode::to_json(&signal)).await;
        }
        if let Some(resize) = self.resize {
            let resize = ResizeRequest { instance: self.instance, ..resize };
            self.say(Verb::Resize, decode::to_json(&resize)).await;
        }
        if self.cancel.is_some() {
            self.send_cancel().await;
        }
        if self.released {
            let release = ReleaseRequest { instance: self.instance };
            self.say(Verb::Release, decode::to_json(&release)).await;
        }
        if self.feed.is_unconfirmed() {
            self.feed.rewind();
            self.send_stdin(now).await;
        }
    }

    pub(super) fn on_link(&mut self, link: ConnectionState, now: Instant) {
        let anew = link.up && link.generation != self.link.generation;
        if anew || link.up != self.link.up {
            self.link_since = now;
        }
        self.link = link;
        match &mut self.phase {
            Phase::Streaming { .. } if anew || !link.up => {
                self.resume(now, "the connection to the bus was lost")
            }
            Phase::Resuming { next, .. } if anew => *next = now,
            Phase::Asking(repeats) if anew => {
                self.may_have_arrived |= repeats.was_said();
                repeats.retry_at(now);
            }
            _ => {}
        }
    }

    pub(super) fn resume(&mut self, now: Instant, why: &str) {
        if self.outcome.is_some() {
            return;
        }
        if let (None, Start::Attach(_), Phase::Asking(repeats)) =
            (self.instance, &self.question, &mut self.phase)
        {
            // The first frame was lost; request the epoch from there again.
            self.recv_window.begin_epoch();
            return repeats.again_at_once(now);
        }
        let was_resuming = matches!(self.phase, Phase::Resuming { .. });
        let received = self.recv_window.received();
        let in_vain = self.resumed.take().filter(|it| it.received == received && now < it.at + SETTLING);
        self.phase = match (&self.phase, in_vain) {
            (Phase::Resuming { since, .. }, _) => Phase::Resuming { since: *since, asked: 0, next: now },
            (_, Some(Resumed { since, asked, .. })) => {
                Phase::Resuming { since, asked, next: now + resume_pause(asked) }
            }
            _ => Phase::Resuming { since: now, asked: 0, next: now },
        };
        if !was_resuming {
            tracing::debug!(job = %self.job, why, "resuming");
            self.tell(Event::Interrupted(why.to_owned()));
        }
        self.recv_window.begin_epoch();
    }

    /// Gives up on the first request. Cancels the job if it may have started.
    fn give_asking_up(&mut self, now: Instant) {
        match self.question {
            Start::Exec { .. } => self.phase = Phase::Withdrawing(Repeats::starting(now)),
            Start::Attach(_) => {
                self.finish(Ending::Unknown { why: format!("{} did not answer", self.peer) });
            }
        }
    }

    /// Describes a job whose peer is silent.
    fn silent(&self) -> String {
        let (peer, job, at) = (&self.peer, self.job, self.recv_window.received().sum());
        let why = format!("{peer} has not answered for {} s", RESUME_FOR.as_secs());
        match self.durable {
            true => format!(
                "{why}; a durable job goes on without its caller: `d attach {peer}/{job} --since-byte {at}` goes on here"
            ),
            false => why,
        }
    }

    pub(super) async fn ask_to_resume(&mut self, now: Instant) {
        let Phase::Resuming { since, asked, next } = &mut self.phase else { return };
        if now >= *since + RESUME_FOR {
            let why = self.silent();
            return self.finish(Ending::Unknown { why });
        }
        if now < *next || !self.link.up {
            return;
        }
        *next = now + resume_pause(*asked);
        *asked += 1;
        if self.looks_at_a_screen() {
            return self.ask_to_attach().await;
        }
        let resume = Resume {
            within: self.within().to_vec(),
            ..self.recv_window.resume(self.instance, self.writes(), self.wants_it_sealed())
        };
        self.say(Verb::Resume, decode::to_json(&resume)).await;
    }
}
