//! The shim: a process that supervises one durable job. It holds the job's pipes or terminal, its log and its
//! outcome.
//!
//! ```text
//!   daemon ── ShimConnection ──socket── shim (`d shim`) ── command ── …
//!      │       order →          │  stdin ← stdin_mux (several writers, each ordered by offset)
//!      │       ← started        │  stdout, stderr → log
//!      │       stdin, signal →  │
//!      │       ← log, want      └─ ended.json
//!      └── log::Reader (any number of readers, directly from the disk)
//! ```
//! The shim runs one command on behalf of the daemon. It starts the command with
//! [`process`](peerbus_process), reads all its output, enforces its timeout, stops its processes and records
//! its outcome. It keeps running if the daemon exits. The daemon may reconnect at any time, even as another
//! version.
//!
//! The job may be a task: commands that run in sequence. Then all of this applies to each of them.
//!
//! Guarantees: a shim starts its command at most once. Every byte of output is in the log before anybody is
//! notified of it; on a full disk the command waits. The outcome is on disk before the shim exits. The shim
//! holds its lock for its whole life, without a gap.
//!
//! Limits: if the shim is killed, the outcome of its command is lost; the output so far stays readable. A
//! shim takes about 1 MiB of memory of its own, twice that with the job's reaper. All shims share the program
//! text.

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
