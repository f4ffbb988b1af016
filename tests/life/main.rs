//! The daemon's life from the command line: `d daemon start`, `stop`, `restart`, `status`, `logs`.
//! What is said of a daemon is held against what `/proc` knows of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

mod bench;
#[path = "../harness/mod.rs"]
mod harness;
mod logs;
mod refusals;
mod restart;
mod start;
mod status;
mod stop;
mod unit;
