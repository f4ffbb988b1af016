//! A fleet with identities, as those who belong to it make it, and as those who do not attack it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

use peerbus_harness as harness;

mod attacks;
mod away;
mod commands;
mod machines;
mod making;
mod names;
mod older_fleet;
mod proved;
mod revoking;
mod rights;
mod server_rights;
mod steering;
mod thieves;
mod trusted_network;
mod unit;
