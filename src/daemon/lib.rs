//! The peer's end: takes requests, runs jobs, says that it lives.
//!
//! ```text
//!  run ── lock, state file, broker, journal, recovery, bus, "am I alone?" ── ready
//!   │
//!   ├── intake ── exec (checks) ─┬ job (one task each) ────── process
//!   │                            ├ durable (one task each) ── keeper
//!   │                            └─ policy, journal, audit, answer
//!   ├── queue                        what was left here while we were away, on its way to the desk
//!   ├── heartbeat, ping, service     tasks of their own: no job delays them
//!   ├── solitude                     one daemon per peer id
//!   ├── handover                     becoming another version of itself
//!   └── leader                       where the role says so
//! ```
//! Guarantees: nothing anyone sends stops a daemon; a request runs at most once, journalled before
//! it starts; a daemon that finds a dead one's jobs stops what is left of them before it serves, and goes on with those
//! that are durable;
//! nothing listens but what dials out. It does not know command lines or how a person is told.

mod account;
mod answer;
mod asked;
pub mod audit;
pub mod broker;
mod context;
mod durable;
mod exec;
mod freshness;
pub mod handover;
mod health;
mod heartbeat;
mod housekeeping;
mod intake;
mod job;
mod jobs;
mod journal;
pub mod limits;
mod listening;
pub mod orphans;
pub mod policy;
mod proof;
mod queue;
mod recovery;
mod roll;
mod run;
mod service;
mod serving;
mod solitude;
pub mod state;
pub mod trust;

pub use context::{CALLER_GRACE, MAX_JOBS, Settings};
pub use journal::is_open as job_is_open;
pub use recovery::recover_after;
pub use run::{Asked, DaemonError, Ended, Next, Ready, run};
