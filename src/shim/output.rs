//! Writes the command's output to the log.
//!
//! Guarantee: if the disk is full, the pending chunk is retried and nothing more is read, so the command
//! waits as for any slow reader. Nothing is lost, and memory use is bounded.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::log::Writer;
use super::messages::LogExtent;
use peerbus_protocol::frame::{OUTPUT_MAX, StreamKind};

/// Pause between attempts to write to a full disk.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Shortest time between two progress reports.
const TELL_EVERY: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(super) struct Output {
    log: Writer,
    held: Option<(StreamKind, Bytes)>,
    /// The combined offset up to which viewers have room.
    until: Option<u64>,
    try_again: Option<Instant>,
    /// Why the disk refuses the output, and whether this was reported.
    trouble: (Option<String>, bool),
    /// The last reported extent, and the time of that report.
    told: (LogExtent, Option<Instant>),
}

impl Output {
    pub(super) fn create(directory: &Path, limit: u64) -> io::Result<Self> {
        let log = Writer::create(directory, limit)?;
        Ok(Self {
            log,
            held: None,
            until: None,
            try_again: None,
            trouble: (None, true),
            told: (LogExtent::default(), None),
        })
    }

    /// The number of bytes that may be read from the command now.
    pub(super) fn room(&self) -> u64 {
        if self.held.is_some() {
            return 0;
        }
        let until = self.until.map_or(u64::MAX, |until| until.saturating_sub(self.log.totals().sum()));
        until.min(OUTPUT_MAX as u64)
    }

    /// Sets the combined offset up to which viewers have room; `None` for no limit.
    pub(super) fn pace(&mut self, until: Option<u64>) {
        self.until = until;
    }

    /// Whether all output read so far is in the log.
    pub(super) fn is_written(&self) -> bool {
        self.held.is_none()
    }

    /// Accepts output.
    pub(super) fn take(&mut self, stream: StreamKind, bytes: Bytes) {
        self.held = Some((stream, bytes));
        self.write(Instant::now());
    }

    fn write(&mut self, now: Instant) {
        let Some((stream, bytes)) = &mut self.held else { return };
        match self.log.append(*stream, bytes) {
            Ok(()) => {
                self.held = None;
                if self.try_again.take().is_some() {
                    tracing::info!("the log can be written again");
                    self.trouble = (None, false);
                }
            }
            Err(error) => {
                // Log this once, not five times a second.
                if self.try_again.is_none() {
                    tracing::error!(%error, "the log cannot be written, so the job waits");
                    let why = format!("the log cannot be written, so the job waits: {error}");
                    self.trouble = (Some(why), false);
                }
                self.try_again = Some(now + TRY_AGAIN);
            }
        }
    }

    /// The current extent of the log.
    pub(super) fn reach(&self) -> LogExtent {
        let (totals, first) = (self.log.totals(), self.log.first());
        LogExtent { out: totals.out, err: totals.err, first_out: first.out, first_err: first.err }
    }

    /// The current extent, if it has changed and a report is due.
    pub(super) fn news(&mut self, now: Instant) -> Option<LogExtent> {
        let reach = self.reach();
        let (told, at) = self.told;
        let is_due = at.is_none_or(|at| now >= at + TELL_EVERY);
        let news = (told != reach && is_due).then_some(reach);
        if news.is_some() {
            self.told = (reach, Some(now));
        }
        news
    }

    /// Records that the log is complete but the outcome cannot be written.
    pub(super) fn end_is_held_up(&mut self, error: &io::Error) {
        // Log this once, not every second.
        if self.trouble.0.is_none() {
            tracing::error!(%error, "the end of the job cannot be written");
            self.trouble = (Some(format!("the end of the job cannot be written: {error}")), false);
        }
    }

    /// The problem that blocks the job, if any.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.0.clone()
    }

    /// The problem, if its change was not reported yet.
    pub(super) fn new_trouble(&mut self) -> Option<Option<String>> {
        let (why, told) = &mut self.trouble;
        (!std::mem::replace(told, true)).then(|| why.clone())
    }

    /// When the next progress report is due, if any.
    pub(super) fn news_at(&self) -> Option<Instant> {
        let (told, at) = self.told;
        if told == self.reach() { None } else { at.map(|at| at + TELL_EVERY) }
    }

    /// When to retry the disk, if needed.
    pub(super) fn try_again(&self) -> Option<Instant> {
        self.try_again
    }

    /// Handles expired deadlines.
    pub(super) fn on_clock(&mut self, now: Instant) {
        if self.try_again.is_some_and(|at| now >= at) {
            self.write(now);
        }
    }
}
