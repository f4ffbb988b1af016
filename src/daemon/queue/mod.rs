//! Requests that were queued while this peer was away: fetched, checked, claimed and run.
//!
//! ```text
//!  stream QUEUE ── consumer ── parse (signature, shape) ── dispatcher ── job
//!                     ▲                                                   │ due? policy, free slots
//!                     │ unacknowledged deliveries come again              ▼
//!                     └───────────────────────────────────── delivery: copy and journal on the disk,
//!                                                            acknowledged, "starting" on the disk
//! ```
//! | file | what it does |
//! |---|---|
//! | `consumer` | pulls one delivery after another while there is a free slot |
//! | `parse` | turns a delivery into a request, or rejects it |
//! | `delivery` | acknowledges a delivery, and takes it step by step to the start of its job |
//!
//! Guarantees:
//! - A request runs at most once, however often it is delivered. The journal decides, and a job starts only after
//!   the server has confirmed that it will not redeliver the request.
//! - Until then, and until its start is on the disk, no request is lost: a killed daemon leaves a copy to its
//!   successor.
//! - A request does not begin after it has expired by this machine's clock, or if the journal may have forgotten
//!   it.
//! - An invalid message is removed from the queue, logged and counted. It delays no other.
//!
//! Limits: if this machine's clock is behind the caller's, a request waits until the clock catches up. If it is
//! ahead, requests expire earlier by that difference. A job that has begun is like any other: it ends with the
//! daemon.

mod consumer;
mod delivery;
mod parse;

pub(super) use consumer::run;
pub(super) use delivery::{Taken, Ticket, taken};
