//! The protocol as a plain NATS client in any other language would speak it: nothing here uses the
//! project's own encoding, so a change of what is said on the bus shows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

use peerbus_harness as harness;

mod bad_input;
mod flood;
mod fuzz;
mod malformed;
mod once;
mod plain;
mod poison;
mod service;
mod stdin;
mod steer;
mod stream;
mod talk;
mod wire;
