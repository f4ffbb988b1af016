//! The peer's end: takes requests, runs jobs, says that it lives.
//!
//! ```text
//!  run ── lock, state file, broker, journal, recovery, bus, "am I alone?" ── ready
//!   │
//!   ├── intake ── exec (checks) ─┬ job (one task each) ────── process
//!   │                            ├ durable (one task each) ── shim
//!   │                            └─ policy, journal, audit, answer
//!   ├── queue                        what was left here while we were away, on its way to the dispatcher
//!   ├── heartbeat, ping, service     tasks of their own: no job delays them
//!   ├── solitude                     one daemon per peer id
//!   ├── handover                     becoming another version of itself
//!   └── leader                       where the role says so
//! ```
//! Guarantees: nothing anyone sends stops a daemon; a request runs at most once, journalled before
//! it starts; a daemon that finds a dead one's jobs stops what is left of them before it serves, and goes on with those
//! that are durable;
//! nothing listens but what dials out. It does not know command lines or how a person is told.

mod account_cache;
mod answer;
pub mod audit;
mod auth;
pub mod broker;
mod context;
mod dispatcher;
mod durable;
mod health;
mod heartbeat;
mod housekeeping;
mod id_conflict;
mod job;
mod jobs;
mod journal;
pub mod limits;
mod nonces;
pub mod orphans;
pub mod policy;
mod queue;
mod readiness;
mod recovery;
mod request;
mod request_summary;
mod run;
mod running_jobs;
pub mod self_upgrade;
mod service;
mod serving;
pub mod state;
pub mod trusted_network;

pub use context::{CALLER_GRACE, DaemonSettings, MAX_JOBS};
pub use journal::is_open as job_is_open;
pub use recovery::recover_after;
pub use run::{ControlSignals, DaemonError, Exit, NextVersion, Ready, run};
pub use running_jobs::RunningJobs;
