//! Durable jobs at their peer: they outlive their caller, the link, and the daemon.
//!
//! ```text
//!   admission ──► start ─┐            ┌─ viewer: Outbox + log::Reader ── frames ──► inbox
//!   recovery  ──► adopt ─┼──► job ────┼─ viewer …      each reads the log from the disk,
//!   attend    ──► again ─┘     │      └─ viewer …      at its own pace, with its own credit
//!                              │
//!                            shim (a process of its own) ── command
//! ```
//! Each job is one task that owns its link to the shim and its viewers; each viewer is one task. The command's
//! pipes, its log and its end are the shim's, so a daemon that is killed or replaced costs a durable job nothing:
//! the next one finds the shim by the lock it holds, and viewers resume where they stood, because all they have
//! not got is in the log.
//!
//! Guarantees: a durable request passes the same checks as any other, is journalled before its shim starts, and
//! never runs twice. A viewer that reads slowly, or not at all, holds up neither the job nor another viewer. How a job
//! ended is written to journal and audit log by the daemon that learns of it, also when that was while there was
//! none. A shim that died is noticed at once; its job's processes are stopped, and its end is `unknown`. To stop a job
//! never takes its shim's answer: one that gives none is killed.
//!
//! Limits: as many jobs at once, and as much output of each, as [`Limits`](super::limits::Limits) say; and
//! [`VIEWERS_MOST`] viewers a job.

mod adopt;
mod control;
mod ending;
mod job;
mod poll_state;
mod progress;
mod rename_detach;
mod responder;
mod retention;
mod shim_handle;
mod spawn_limiter;
mod stdin_sources;
mod viewer;
mod viewers;
mod watchdog;

pub(super) use adopt::{Left, attend_again, resume_left};
pub(super) use job::run;
pub(super) use retention::retain;
pub(super) use shim_handle::{Known, look};
pub(super) use spawn_limiter::Starts;

/// Most viewers one job has at once.
const VIEWERS_MOST: usize = 64;
