//! The command line and the documentation.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops; some ask the system for what std does not offer"
)]

use peerbus_harness as harness;

mod architecture;
mod config;
mod doc_examples;
mod doctor;
mod harness_itself;
