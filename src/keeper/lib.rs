//! One durable job, in a process of its own: its pipes or terminal, its log, its end.
//!
//! ```text
//!  daemon ── link ──socket── keeper (`d keeper`) ── command ── …
//!     │       order →          │  stdin ← inputs (several writers, each joined by offset)
//!     │       ← started        │  stdout, stderr → log
//!     │       stdin, signal →  │
//!     │       ← log, want      └─ ended.json
//!     └── log::Reader (as many as read along, straight from the disk)
//! ```
//! The keeper has the daemon's part for one command: it starts it with [`process`](peerbus_process), reads
//! it to the end of its output, enforces its timeout, stops its tree, and writes down how it ended. It
//! goes on whatever becomes of the daemon, which may come back at any time, as another version even.
//!
//! The job may be a task: commands that run one after the other. All of that holds for each of them.
//!
//! Guarantees: a command that has a keeper is started at most once. Every byte that was read from it is in
//! the log before anybody is told of it; on a full disk the command waits. How it ended is on the disk
//! before the keeper goes. While the keeper lives its lock is held, without a moment's gap.
//!
//! Limits: a keeper that is killed takes the knowledge of its command's end with it; what it wrote until then
//! stays readable. A keeper takes about 1 MiB of memory of its own, with the reaper of its job twice that; the
//! program itself they all share.

mod conversation;
mod finding;
mod inputs;
pub mod link;
pub mod log;
mod obeying;
mod output;
mod place;
mod program;
mod serve;
mod starting;
mod steps;
mod terminal;
mod wire;
pub mod words;
mod written;

pub use link::{Found, Link, NoStart};
pub use place::Place;
pub use program::keeper_main;
pub use words::{Ended, FromKeeper, Order, ToKeeper};
