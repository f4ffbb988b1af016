//! The commands under the names, with the flags and the exact texts, that older scripts rely on.
//! Lists and single peers are in `tests/peers.rs`, this machine's own state in `tests/status.rs`,
//! `execOnPeer` itself in `tests/exec`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod errors;
mod joining;
mod machine;
mod registry;
mod tasks;
