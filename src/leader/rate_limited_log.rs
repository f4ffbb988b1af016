//! Things that go wrong often, said in the log once in a while and counted in between.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// How long a complaint is only counted after it was said.
const QUIET: Duration = Duration::from_secs(60);

/// Counts of what went wrong, by its fixed name.
#[derive(Debug, Default)]
pub(super) struct RateLimitedLog(HashMap<&'static str, LoggedProblem>);

#[derive(Debug)]
struct LoggedProblem {
    total: u64,
    unsaid: u64,
    said: Option<Instant>,
}

impl RateLimitedLog {
    /// Counts `times`, and says it with the latest reason when it was not said of late.
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
