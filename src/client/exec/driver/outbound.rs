//! Publishes the driver's messages. Timers repeat lost ones.

use super::*;
use peerbus_protocol::signature::CHALLENGE;

impl Driver {
    pub(super) async fn ask(&mut self) {
        let Phase::Asking(repeats) = &self.phase else { return };
        let Start::Exec { request, .. } = &self.question else { return self.ask_to_attach().await };
        self.may_have_arrived |= !repeats.is_first();
        let mut request =
            Outgoing::to(&subjects::exec(&self.peer)).reply(&self.reply).payload(request.clone()).sealed();
        if let Some(challenge) = &self.challenge {
            request = request.header(CHALLENGE, challenge);
        }
        let request = self.bus.sealed(request);
        self.signatures.extend(request.signature());
        if let Err(peerbus_bus::BusError::TooLarge { size, limit }) = self.bus.publish(request).await {
            self.finish(Ending::Refused {
                why: peerbus_protocol::ending::Refusal::BadRequest,
                message: format!("the request has {size} bytes, the server takes {limit}"),
            });
        }
    }

    /// Sends the attach request of the current epoch.
    pub(super) async fn ask_to_attach(&mut self) {
        let Start::Attach(how) = &self.question else { return };
        let attach = AttachRequest {
            epoch: self.recv_window.epoch(),
            instance: None,
            from: how.from,
            window: self.recv_window.window(),
            write: how.write,
            tty: self.size,
            sealed: how.sealed,
            within: how.within.clone(),
        };
        self.say(Verb::Attach, decode::to_json(&attach)).await;
    }

    pub(super) async fn send_credit(&mut self, now: Instant) {
        self.credit_again = now + CREDIT_EVERY;
        let credit = self.recv_window.credit(self.instance);
        self.say(Verb::Credit, decode::to_json(&credit)).await;
    }

    pub(super) async fn send_cancel(&mut self) {
        let cancel = CancelRequest { instance: self.instance, why: self.cancel.clone(), unless_begun: false };
        self.say(Verb::Cancel, decode::to_json(&cancel)).await;
    }

    pub(super) async fn send_stdin(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Streaming { .. }) {
            return;
        }
        let most = self.bus.max_payload().saturating_sub(HEADERS);
        while let Some((offset, bytes)) = self.feed.next_chunk(most) {
            self.say_again = now + SAY_AGAIN;
            let mut chunk = self.about_the_job(Verb::Stdin).header(frame::OFFSET, offset).payload(bytes);
            if let Some(instance) = self.instance {
                chunk = chunk.header(INSTANCE_HEADER, instance);
            }
            // If this fails, the chunk stays unconfirmed and is sent again.
            let _ = self.bus.publish(chunk).await;
        }
    }

    /// Sends a control request of the job. Timers repeat lost ones.
    pub(super) async fn say(&mut self, verb: Verb, body: Vec<u8>) {
        let word = self.about_the_job(verb).payload(body);
        let _ = self.bus.publish(word).await;
    }

    pub(super) fn about_the_job(&mut self, verb: Verb) -> Outgoing {
        let word = Outgoing::to(&subjects::job(&self.peer, self.job, verb)).reply(&self.reply);
        // Credits are frequent and change nothing, so they need no proof. For a durable job they do,
        // because they may reach a new daemon that does not yet know its viewers.
        if verb == Verb::Credit && !self.durable {
            return word;
        }
        // These messages depend on this attachment, so they use its nonce. A challenge is valid for
        // one other message.
        let one = match verb {
            Verb::Stdin | Verb::Resize | Verb::Credit => None,
            _ => self.challenge.take(),
        };
        match one.or_else(|| self.nonce.clone()) {
            Some(text) => word.header(CHALLENGE, text).sealed(),
            None => word.sealed(),
        }
    }
}
