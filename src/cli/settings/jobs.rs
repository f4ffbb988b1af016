//! The table `[jobs]` of the configuration file: limits on the number and the logs of durable jobs.

use std::num::NonZeroU16;

use serde::{Deserialize, Deserializer, de};

use crate::args::size;
use peerbus_daemon::limits::{KEEP_DAYS, LOG_LIMIT, LOG_LIMIT_MIN, LOGS_TOTAL, Limits, MOST};

/// The table in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table [jobs]")]
struct Table {
    #[serde(default, deserialize_with = "bytes")]
    log_limit: Option<u64>,
    #[serde(default, deserialize_with = "bytes")]
    logs_total: Option<u64>,
    keep_days: Option<NonZeroU16>,
    most: Option<NonZeroU16>,
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    size(&String::deserialize(from)?).map(Some).map_err(de::Error::custom)
}

/// Reads the table, whose keys are all optional.
pub(super) fn limits<'de, D: Deserializer<'de>>(from: D) -> Result<Limits, D::Error> {
    checked(&Table::deserialize(from)?).map_err(de::Error::custom)
}

fn checked(table: &Table) -> Result<Limits, String> {
    let log_limit = table.log_limit.unwrap_or(LOG_LIMIT);
    // A larger log limit raises the default total, so users need not set both.
    let logs_total = table.logs_total.unwrap_or(LOGS_TOTAL.max(log_limit));
    if log_limit < LOG_LIMIT_MIN {
        let least = LOG_LIMIT_MIN >> 10;
        return Err(format!("jobs.log_limit: {log_limit} bytes are too few; {least}KiB is the least"));
    }
    if logs_total < log_limit {
        return Err(format!(
            "jobs.logs_total: {logs_total} bytes are less than one job's log may take, which is {log_limit} (log_limit)"
        ));
    }
    Ok(Limits {
        log_limit,
        logs_total,
        keep_for: Limits::days(table.keep_days.map_or(KEEP_DAYS, NonZeroU16::get)),
        most: usize::from(table.most.map_or(MOST, NonZeroU16::get)),
    })
}
