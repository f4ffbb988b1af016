//! Durable jobs on their peer. They outlive their caller, the link and the daemon.
//!
//! ```text
//!   admission ──► start ─┐            ┌─ viewer: SendBuffer + log::Reader ── frames ──► inbox
//!   recovery  ──► adopt ─┼──► job ────┼─ viewer …      each reads the log from the disk,
//!   attend    ──► adopt ─┘     │      └─ viewer …      at its own pace, with its own credit
//!                              │
//!                            shim (a process of its own) ── command
//! ```
//! Each job is one task that owns the connection to the shim and the viewers. Each viewer is one task. The shim
//! owns the command's pipes, the log and the exit status, so a durable job survives a killed or replaced daemon.
//! The next daemon finds the shim by the lock it holds. Viewers resume at their offset, because the log has all
//! output that they have not received.
//!
//! Guarantees:
//! - A durable request passes the same checks as any other. The journal has it before its shim starts. It never
//!   runs twice.
//! - A slow viewer delays neither the job nor other viewers.
//! - The daemon that learns of an ending writes it to the journal and the audit log, even if the job ended while no
//!   daemon ran.
//! - The daemon notices a dead shim at once. It stops the job's processes and records the ending as `unknown`.
//! - Stopping a job does not depend on its shim: the daemon kills a shim that does not answer.
//!
//! Limits: [`Limits`](super::limits::Limits) bound the number of jobs and the output of each. A job has at most
//! [`VIEWERS_MOST`] viewers.

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

/// Maximum number of concurrent viewers of one job.
const VIEWERS_MOST: usize = 64;
