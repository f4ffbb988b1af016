//! Sitting at a terminal on another machine: the real `d` in a real terminal, with a real server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on says so and stops"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod asked;
mod keys;
mod leaving;
mod losses;
mod person;
#[path = "../screen/reference.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod reference;
mod screens;
mod sessions;
mod steered;
mod viewing;
mod xterm;
