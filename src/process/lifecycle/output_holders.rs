//! Output that outlives its command: finds the processes that hold it open, and decides whether to wait for
//! them.
//!
//! ```text
//!   exit ──► check, check, … ─┬─► some holder is not a server: wait, check again
//!                            └─► only servers, twice in a row ──► settled: read what is in the pipes
//! ```
//! If the output ends with the command, no check runs. Checks become rarer over time and use a small share of
//! it.

use std::io;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::holders::{Holder, HolderScan, look};
use crate::output_reader::OutputReader;
use crate::process_set::ProcessSet;
use peerbus_protocol::exec::{HOLDERS_SHOWN, OutputHolder};
use peerbus_protocol::send_buffer::StreamOffsets;

/// Delay of the first check after the command's exit; also the shortest pause between checks.
const FIRST_LOOK: Duration = Duration::from_millis(100);

/// The longest pause, unless a check itself takes long.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The pause after a check is at least this many times the duration of the check.
const LOOKS_TAKE_A_PART: u32 = 50;

/// When to start reporting the holders that delay the end.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// How many checks in a row must find no holder to wait for. A single check can miss a process that is
/// becoming a server or has just passed the output on.
const QUIET_LOOKS: u32 = 2;

/// Time limit for a check once the caller no longer waits for any holder.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// The known holders of the output.
#[derive(Debug)]
pub(super) struct Lingering {
    since: Instant,
    next: Instant,
    looking: Option<(Instant, JoinHandle<io::Result<HolderScan>>)>,
    looked: Option<(Instant, io::Result<HolderScan>)>,
    /// The holders the last check found; `None` before the first check.
    seen: Option<Vec<Holder>>,
    quiet: u32,
    /// From this time on, no holder delays the end.
    released: Option<Instant>,
    settled: bool,
    /// The offsets at which the output ends.
    ends_at: Option<StreamOffsets>,
}

impl Lingering {
    pub(super) fn since(now: Instant) -> Self {
        let next = now + FIRST_LOOK;
        Self {
            since: now,
            next,
            looking: None,
            looked: None,
            seen: None,
            quiet: 0,
            released: None,
            settled: false,
            ends_at: None,
        }
    }

    /// From `at` on, no holder delays the end.
    pub(super) fn release(&mut self, at: Instant) {
        let released = self.released.get_or_insert(at);
        *released = at.min(*released);
        self.next = self.next.min(at);
    }

    /// The next deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match (&self.looking, self.released) {
            _ if self.settled => None,
            (Some(_), released) => released.map(|at| at + LAST_LOOK),
            (None, _) => Some(self.next),
        }
    }

    /// Waits for the running check to finish. Cancel safe.
    pub(super) async fn looked(&mut self) {
        let Some((began, handle)) = &mut self.looking else { return std::future::pending().await };
        let (began, looked) = (*began, handle.await);
        self.looking = None;
        self.looked = Some((began, looked.map_err(io::Error::other).and_then(|look| look)));
    }

    /// Whether all output worth waiting for was read, for pipes that have not reached end of file. `read` is
    /// the number of bytes read so far.
    pub(super) fn is_over(
        &mut self,
        now: Instant,
        output_reader: &OutputReader,
        read: StreamOffsets,
        (tree, session): (&ProcessSet, u32),
    ) -> bool {
        if let Some((began, looked)) = self.looked.take() {
            self.take(now, began, looked);
        }
        let left_alone =
            self.released.is_some_and(|at| now >= at && (self.seen.is_some() || now >= at + LAST_LOOK));
        self.settled |= self.quiet >= QUIET_LOOKS || left_alone;
        if self.settled {
            let waiting = output_reader.waiting();
            let there = StreamOffsets { out: read.out + waiting.out, err: read.err + waiting.err };
            let end = *self.ends_at.get_or_insert(there);
            return read.out >= end.out && read.err >= end.err;
        }
        if self.looking.is_none() && now >= self.next {
            let (tree, outputs) = (tree.clone(), output_reader.names());
            let look = tokio::task::spawn_blocking(move || look(tree.members(), &outputs, session));
            self.looking = Some((now, look));
        }
        false
    }

    fn take(&mut self, now: Instant, began: Instant, looked: io::Result<HolderScan>) {
        let elapsed = now.saturating_duration_since(self.since);
        let pause = elapsed.clamp(FIRST_LOOK, LONGEST_PAUSE);
        self.next = now + pause.max(now.saturating_duration_since(began) * LOOKS_TAKE_A_PART);
        let tells_at = self.since + TELL_AFTER;
        if now < tells_at {
            self.next = self.next.min(tells_at);
        }
        if let Some(at) = self.released.filter(|at| *at > now) {
            self.next = self.next.min(at);
        }
        match looked {
            Ok(HolderScan { holders, is_whole }) => {
                // An invisible holder may still write.
                let none_to_wait_for =
                    is_whole && !holders.is_empty() && holders.iter().all(|it| it.who.server);
                self.quiet = if none_to_wait_for { self.quiet + 1 } else { 0 };
                if none_to_wait_for {
                    self.next = now + FIRST_LOOK;
                }
                self.seen = Some(holders);
            }
            Err(error) => {
                tracing::warn!(%error, "nobody can look who holds the output of a command");
                self.quiet = 0;
            }
        }
    }

    /// The holders that delay the end, once it is time to report them. Empty if none of them is visible.
    pub(super) fn waits_for(&self, now: Instant) -> Option<Vec<OutputHolder>> {
        let seen = self.seen.as_ref().filter(|_| !self.settled && now >= self.since + TELL_AFTER)?;
        let them = seen.iter().filter(|holder| !holder.who.server);
        let them: Vec<_> = them.map(|holder| holder.who.clone()).take(HOLDERS_SHOWN).collect();
        (!them.is_empty() || seen.is_empty()).then_some(them)
    }

    /// Whether the release leaves a holder that would otherwise delay the end.
    pub(super) fn leaves_somebody(&self) -> bool {
        self.seen.as_ref().is_none_or(|seen| seen.is_empty() || seen.iter().any(|holder| !holder.who.server))
    }

    /// The holders the last check found.
    pub(super) fn into_seen(self) -> Vec<Holder> {
        self.seen.unwrap_or_default()
    }
}
