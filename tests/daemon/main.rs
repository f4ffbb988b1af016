//! The daemon: start, stop, upgrade, its broker and its log.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on says so and stops; some print figures"
)]

use peerbus_harness as harness;

mod broker;
mod daemon;
mod idle_cpu;
mod lifecycle;
mod log;
mod upgrade;
