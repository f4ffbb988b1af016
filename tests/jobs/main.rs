//! Seeing and steering jobs from the command line: what runs, what has run, and how one is stopped
//! and waited for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

mod attaching;
mod bench;
mod completing;
mod durable;
mod finding;
#[path = "../harness/mod.rs"]
mod harness;
mod listing;
mod logs;
mod many;
mod members;
mod silent;
mod stopping;
mod tasks;
mod waiting;
mod within;
