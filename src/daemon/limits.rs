//! How many durable jobs there may be at once, and how much of what they print is kept.

use std::time::Duration;

/// Bytes kept of one job's output, unless the configuration says otherwise.
pub const LOG_LIMIT: u64 = 64 << 20;

/// The fewest that can be asked for: a log is divided into eight.
pub const LOG_LIMIT_MIN: u64 = 64 << 10;

/// Bytes kept of all ended jobs together, unless the configuration says otherwise.
pub const LOGS_TOTAL: u64 = 1 << 30;

/// How long an ended job's output is kept, in days, unless the configuration says otherwise.
pub const KEEP_DAYS: u16 = 7;

/// Durable jobs at once, unless the configuration says otherwise. Each has a process of its own.
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
    /// Durable jobs at once.
    pub most: usize,
}

impl Limits {
    /// What is kept for this many days.
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
