//! What goes wrong: links, servers, daemons, callers and disks. Each time the command ran once or
//! not at all, its output is whole to the byte or said to be lost, and nothing is left behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

use peerbus_harness as harness;

mod bench;
mod caller;
mod crash;
mod dead_mount;
mod disk;
mod journal;
mod late;
mod leaving;
mod limits;
mod links;
mod process;
mod transfer;
mod twins;
