//! Limits of durable jobs: how many run at once, and how much of their output is kept.

use std::time::Duration;

/// Default bytes kept of one job's output.
pub const LOG_LIMIT: u64 = 64 << 20;

/// Minimum of that: a log has eight segments.
pub const LOG_LIMIT_MIN: u64 = 64 << 10;

/// Default bytes kept of all ended jobs together.
pub const LOGS_TOTAL: u64 = 1 << 30;

/// Default number of days that an ended job's output is kept.
pub const KEEP_DAYS: u16 = 7;

/// Default limit of concurrent durable jobs. Each has its own shim process.
pub const MOST: u16 = 1_000;

/// The limits of durable jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes kept of one job's output: the newest.
    pub log_limit: u64,
    /// Bytes kept of all ended jobs together.
    pub logs_total: u64,
    /// How long the output of an ended job is kept.
    pub keep_for: Duration,
    /// Limit of concurrent durable jobs.
    pub most: usize,
}

impl Limits {
    /// The duration of this many days.
    #[must_use]
    pub fn days(days: u16) -> Duration {
        Duration::from_secs(u64::from(days) * 24 * 3600)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            log_limit: LOG_LIMIT,
            logs_total: LOGS_TOTAL,
            keep_for: Self::days(KEEP_DAYS),
            most: usize::from(MOST),
        }
    }
}
