//! The audit log: who asked for what and what became of it, in lines that nobody changes unseen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

mod bench;
mod content;
#[path = "../harness/mod.rs"]
mod harness;
mod heard;
mod many;
mod members;
mod tampering;
mod trouble;
