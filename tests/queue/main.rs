//! Jobs that wait for peers that are away: in a real JetStream, taken by real daemons.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../identity/speaker.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod speaker;

mod cancelling;
mod crash;
mod everyday;
mod refusals;
mod scene;
mod secured;
mod servers;
