//! The log of a daemon: one line a job, nothing secret, nothing forged, and silence at rest.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod bench;
mod jobs;
mod journal;
mod levels;
mod secrets;
mod silence;
