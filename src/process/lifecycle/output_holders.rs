//! The output after the command's own end: who may still write to it, and whether anybody waits for that.
//!
//! ```text
//!  exit ──► look, look, … ──┬─► somebody who is no server: waited for, looked at again
//!                           └─► servers alone, twice in a row ──► settled: what is in the pipes is the rest
//! ```
//! A command whose output ends with it is never looked at. Looks become rarer with time, and take a small part of it.

use std::io;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::super::holders::{Holder, HolderScan, look};
use super::super::output_reader::OutputReader;
use super::super::process_set::ProcessSet;
use peerbus_protocol::exec::{HOLDERS_SHOWN, OutputHolder};
use peerbus_protocol::send_buffer::StreamOffsets;

/// When to look for the first time, counted from the command's end, and the shortest pause after that.
const FIRST_LOOK: Duration = Duration::from_millis(100);

/// The longest pause, but where a look takes long.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How many times as long as a look the pause after it is, at least.
const LOOKS_TAKE_A_PART: u32 = 50;

/// From when on it is told who is waited for.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// So many looks in a row have to find nobody to wait for: one that is about to become a server, or has just handed the
/// output on, may be missed by one.
const QUIET_LOOKS: u32 = 2;

/// How long a look may take where nobody is to be waited for any more.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// What is known of those who hold the output open.
#[derive(Debug)]
pub(super) struct Lingering {
    since: Instant,
    next: Instant,
    looking: Option<(Instant, JoinHandle<io::Result<HolderScan>>)>,
    looked: Option<(Instant, io::Result<HolderScan>)>,
    /// Those that were seen last; none before it was looked.
    seen: Option<Vec<Holder>>,
    quiet: u32,
    /// From when on nobody is to be waited for, whoever it is.
    released: Option<Instant>,
    settled: bool,
    /// Where the output ends for us.
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

    /// From then on nobody is waited for any more.
    pub(super) fn release(&mut self, at: Instant) {
        let released = self.released.get_or_insert(at);
        *released = at.min(*released);
        self.next = self.next.min(at);
    }

    /// When to come again by the clock.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match (&self.looking, self.released) {
            _ if self.settled => None,
            (Some(_), released) => released.map(|at| at + LAST_LOOK),
            (None, _) => Some(self.next),
        }
    }

    /// Waits for a look to be done. Cancel safe.
    pub(super) async fn looked(&mut self) {
        let Some((began, handle)) = &mut self.looking else { return std::future::pending().await };
        let (began, looked) = (*began, handle.await);
        self.looking = None;
        self.looked = Some((began, looked.map_err(io::Error::other).and_then(|look| look)));
    }

    /// Whether all that is waited for was read, as far as it can be said of a pipe that has not ended. `read` is how much
    /// of it was read so far.
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
                // One that nobody can see may well write.
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

    /// Those that are waited for, where it is time to tell. Empty where none of them can be seen.
    pub(super) fn waits_for(&self, now: Instant) -> Option<Vec<OutputHolder>> {
        let seen = self.seen.as_ref().filter(|_| !self.settled && now >= self.since + TELL_AFTER)?;
        let them = seen.iter().filter(|holder| !holder.who.server);
        let them: Vec<_> = them.map(|holder| holder.who.clone()).take(HOLDERS_SHOWN).collect();
        (!them.is_empty() || seen.is_empty()).then_some(them)
    }

    /// Whether somebody may still write what would have been waited for, had nobody said otherwise.
    pub(super) fn leaves_somebody(&self) -> bool {
        self.seen.as_ref().is_none_or(|seen| seen.is_empty() || seen.iter().any(|holder| !holder.who.server))
    }

    /// Those that were seen last.
    pub(super) fn into_seen(self) -> Vec<Holder> {
        self.seen.unwrap_or_default()
    }
}
