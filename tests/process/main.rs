//! The operating system's end of a job, on the real system: every case once with a cgroup (where
//! the machine has them) and once with a reaper.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

mod bench;
mod blind;
mod both;
mod death;
mod start;
mod surroundings;
mod terminal;
mod tree;
#[path = "../harness/wait.rs"]
#[expect(dead_code, unreachable_pub, reason = "a part of the harness, of which only some is needed here")]
mod wait;

use both::both;
