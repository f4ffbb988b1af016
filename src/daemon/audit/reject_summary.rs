//! Requests that are not written down one by one: there may be any number of them.
//!
//! The first of them is written at once, as a flood of one; what comes within the next
//! [`SUM_UP_EVERY`] is one line then. So garbage takes two lines every ten seconds at most, whatever
//! is sent, and cannot push anything out of the log.

use std::time::Duration;

use tokio::time::Instant;

use peerbus_protocol::audit::{AuditEvent, Example, RejectSummary};
use peerbus_protocol::identity::Name;

/// How often what was counted is written down.
pub(super) const SUM_UP_EVERY: Duration = Duration::from_secs(10);

/// Refused requests of one principal that are written down each, in that time: as many as a peer runs jobs at once.
pub(super) const REFUSED_WHOLE: u32 = 256;

/// How many of those that were counted are shown.
const EXAMPLES: usize = 3;

/// Longest text of an example, in characters.
const TEXT: usize = 200;

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Counter {
    flood: Option<RejectSummary>,
    /// When it may be written down; none means at once.
    not_before: Option<Instant>,
}

impl Counter {
    /// Counts one.
    pub(super) fn add(&mut self, principal: Option<&Name>, caller: Option<&str>, why: &str) {
        let at = super::now();
        let flood = self.flood.get_or_insert_with(|| RejectSummary {
            principal: principal.cloned(),
            count: 0,
            first: at.clone(),
            last: String::new(),
            examples: Vec::new(),
        });
        flood.count += 1;
        flood.last = at;
        if flood.examples.len() < EXAMPLES {
            let cut = |text: &str| text.chars().take(TEXT).collect();
            flood.examples.push(Example { caller: caller.map(cut), why: cut(why) });
        }
    }

    /// When there is something to write down.
    pub(super) fn due(&self) -> Option<Instant> {
        self.flood.as_ref().map(|_| self.not_before.unwrap_or_else(Instant::now))
    }

    /// What is to be written down now, if anything.
    pub(super) fn take(
        &mut self,
        now: Instant,
        as_event: fn(RejectSummary) -> AuditEvent,
    ) -> Option<AuditEvent> {
        if self.not_before.is_some_and(|when| when > now) {
            return None;
        }
        let flood = self.flood.take()?;
        self.not_before = Some(now + SUM_UP_EVERY);
        Some(as_event(flood))
    }

    /// What was counted, whenever it was.
    pub(super) fn rest(&mut self, as_event: fn(RejectSummary) -> AuditEvent) -> Option<AuditEvent> {
        self.flood.take().map(as_event)
    }
}
