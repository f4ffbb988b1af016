//! One durable job, in a process of its own: its pipes or terminal, its log, its end.
//!
//! ```text
//!  daemon ── link ──socket── shim (`d shim`) ── command ── …
//!     │       order →          │  stdin ← inputs (several writers, each joined by offset)
//!     │       ← started        │  stdout, stderr → log
//!     │       stdin, signal →  │
//!     │       ← log, want      └─ ended.json
//!     └── log::Reader (as many as read along, straight from the disk)
//! ```
//! The shim has the daemon's part for one command: it starts it with [`process`](peerbus_process), reads
//! it to the end of its output, enforces its timeout, stops its tree, and writes down how it ended. It
//! goes on whatever becomes of the daemon, which may come back at any time, as another version even.
//!
//! The job may be a task: commands that run one after the other. All of that holds for each of them.
//!
//! Guarantees: a command that has a shim is started at most once. Every byte that was read from it is in
//! the log before anybody is told of it; on a full disk the command waits. How it ended is on the disk
//! before the shim goes. While the shim lives its lock is held, without a moment's gap.
//!
//! Limits: a shim that is killed takes the knowledge of its command's end with it; what it wrote until then
//! stays readable. A shim takes about 1 MiB of memory of its own, with the reaper of its job twice that; the
//! program itself they all share.

mod atomic_file;
mod commands;
mod connection;
mod discover;
mod job_dir;
pub mod link;
pub mod log;
pub mod messages;
mod output;
mod program;
mod serve;
mod spawn;
mod stdin_mux;
mod steps;
mod terminal;
mod wire;

pub use job_dir::JobDir;
pub use link::{Found, ShimConnection, SpawnError};
pub use messages::{FromShim, JobEnd, JobSpec, ToShim};
pub use program::shim_main;
