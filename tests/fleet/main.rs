//! The leader, its registry and its databases, and what is asked of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

use peerbus_harness as harness;

mod databases;
mod leader;
mod legacy_cli;
mod peers;
mod ping;
mod reconnect;
mod registry;
mod status;
