//! Sitting at a terminal on another machine: the real `d` in a real terminal, with a real server.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on says so and stops; some ask the system for what std does not offer, or print figures"
)]

use peerbus_harness as harness;

mod asked;
mod environment;
mod keys;
mod leaving;
mod losses;
mod person;
mod screen;
mod screens;
mod sessions;
mod steered;
mod viewing;
mod xterm;
