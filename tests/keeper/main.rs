//! Keepers of durable jobs, with the real program: every byte is kept whatever becomes of those who read
//! along, no end is lost, and nothing is left behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

mod bench;
#[path = "../process/both.rs"]
mod both;
mod death;
mod disk;
mod endings;
mod golden;
#[path = "../harness/mod.rs"]
mod harness;
mod input;
mod many;
mod output;
mod start;
mod steps;
mod strange;

use both::both;
