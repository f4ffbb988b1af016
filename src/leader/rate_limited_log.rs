//! Logs frequent problems at most once per period and counts them in between.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// Time after a log line during which the same problem is only counted.
const QUIET: Duration = Duration::from_secs(60);

/// Counts of problems, by a fixed name.
#[derive(Debug, Default)]
pub(super) struct RateLimitedLog(HashMap<&'static str, LoggedProblem>);

#[derive(Debug)]
struct LoggedProblem {
    total: u64,
    unsaid: u64,
    said: Option<Instant>,
}

impl RateLimitedLog {
    /// Counts the problem `times` times. Logs it with the latest reason unless it was logged
    /// recently.
    pub(super) fn add(&mut self, what: &'static str, times: u64, why: &dyn Display) {
        if times == 0 {
            return;
        }
        let complaint = self.0.entry(what).or_insert(LoggedProblem { total: 0, unsaid: 0, said: None });
        complaint.total += times;
        complaint.unsaid += times;
        if complaint.said.is_none_or(|said| said.elapsed() >= QUIET) {
            tracing::warn!(times = complaint.unsaid, total = complaint.total, "{what}: {why}");
            complaint.unsaid = 0;
            complaint.said = Some(Instant::now());
        }
    }
}
