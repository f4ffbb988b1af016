//! The leader on a real server with a real database, as the fleet sees it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod leaders;
mod presence;
mod scene;
mod trouble;
