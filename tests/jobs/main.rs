//! Seeing and steering jobs from the command line: what runs, what has run, and how one is stopped
//! and waited for.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops; some ask the system for what std does not offer"
)]

use peerbus_harness as harness;

mod attaching;
mod background;
mod bench;
mod completing;
mod durable;
mod finding;
mod listing;
mod logs;
mod many;
mod members;
mod queue;
mod shim;
mod silent;
mod stopping;
mod tasks;
mod waiting;
mod within;
