//! What waited while this peer was away: fetched, checked, taken, run.
//!
//! ```text
//!  stream QUEUE ── puller ── reading (who says it, is it whole) ── dispatcher ── job
//!                    ▲                                                     │ due? policy, places
//!                    │ a delivery that is not confirmed comes again        ▼
//!                    └──────────────────────────────────────────── ticket: copy and journal on the disk,
//!                                                                  the server told, "starting" on the disk
//! ```
//! | file | what it is |
//! |---|---|
//! | `puller` | asks for one delivery after another, for as long as there is a place for a job |
//! | `reading` | from a delivery to a request, or why it is none |
//! | `ticket` | what the server is told of a delivery, and the steps from there to the start |
//!
//! Guarantees: a request runs at most once, however often it is delivered: the journal decides, and a job
//! starts only after the server has confirmed that it will not be delivered any more. Until then, and until
//! its start is on the disk, nothing of it is lost: whoever is killed in between leaves a copy to its
//! successor. It is not begun once it has expired, by this machine's clock, nor where the journal may have
//! forgotten it. A message that is none is taken out of the queue, said and counted; it holds up nobody.
//!
//! Limits: where this machine's clock is behind the caller's, a request waits until it is not; where it is
//! ahead, requests expire earlier by as much. A job that has begun is as any other: it ends with the daemon.

mod consumer;
mod delivery;
mod parse;

pub(super) use consumer::run;
pub(super) use delivery::{Taken, Ticket, taken};
