//! Summaries of rejected requests, which clients can cause in any number.
//!
//! The first one is written at once, as a summary of one. Those of the next [`SUM_UP_EVERY`] become one line. So
//! malformed requests take at most two lines every ten seconds, and cannot push other lines out of the log.

use std::time::Duration;

use tokio::time::Instant;

use peerbus_protocol::audit::{AuditEvent, Example, RejectSummary};
use peerbus_protocol::identity::Name;

/// Interval of summaries.
pub(super) const SUM_UP_EVERY: Duration = Duration::from_secs(10);

/// Refused requests of one principal per interval that get a line each: as many as a peer runs jobs at once.
pub(super) const REFUSED_WHOLE: u32 = 256;

/// Number of examples in a summary.
const EXAMPLES: usize = 3;

/// Maximum length of an example, in characters.
const TEXT: usize = 200;

/// Counts rejected requests.
#[derive(Debug, Default)]
pub(super) struct Counter {
    flood: Option<RejectSummary>,
    /// When the next summary may be written. `None` means at once.
    not_before: Option<Instant>,
}

impl Counter {
    /// Counts one request.
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

    /// When a summary is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.flood.as_ref().map(|_| self.not_before.unwrap_or_else(Instant::now))
    }

    /// The summary to write now, if any.
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

    /// The remaining summary, due or not.
    pub(super) fn rest(&mut self, as_event: fn(RejectSummary) -> AuditEvent) -> Option<AuditEvent> {
        self.flood.take().map(as_event)
    }
}
