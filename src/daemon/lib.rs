//! The daemon of one peer: receives requests, runs jobs and sends heartbeats.
//!
//! ```text
//!  run ── lock, state file, broker, journal, recovery, bus, id_conflict ── ready
//!   │
//!   ├── dispatcher ── request (checks) ─┬ job (one task each) ────── process
//!   │                                   ├ durable (one task each) ── shim
//!   │                                   └─ policy, journal, audit, answer
//!   ├── queue                        fetches the requests that were queued for this peer
//!   ├── heartbeat, ping, service     tasks of their own: no job delays them
//!   ├── id_conflict                  enforces one daemon per peer id
//!   ├── self_upgrade                 replaces this daemon by another version
//!   └── leader                       runs only on a leader
//! ```
//! Guarantees:
//! - No message can stop a daemon.
//! - A request runs at most once. The journal records it before it starts.
//! - After a crash, the next daemon stops the leftover processes of plain jobs before it serves, and adopts durable
//!   jobs.
//! - The daemon itself opens no listening socket; it only connects out.
//!
//! This crate does not know command lines or how errors are displayed.

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
