//! Becoming another version, and back: real programs that differ in their version, real daemons, and what
//! `/proc` and the file system know of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

mod asked;
mod bench;
mod clean;
mod deploy;
mod disk;
mod durable;
mod failing;
#[path = "../harness/mod.rs"]
mod harness;
mod killed;
mod load;
mod noticed;
mod refused;
