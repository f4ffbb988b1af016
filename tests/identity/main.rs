//! A fleet with identities, as those who belong to it make it, and as those who do not attack it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod attacks;
mod away;
mod commands;
mod machines;
mod making;
mod names;
mod proved;
mod revoking;
mod rights;
mod speaker;
mod steering;
mod thieves;
mod unit;
