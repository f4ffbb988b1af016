//! The operating system's end of a job, on the real system: every case once with a cgroup (where
//! the machine has them) and once with a reaper.

#![expect(clippy::expect_used, reason = "a test that cannot go on says so by panicking")]

mod bench;
mod blind;
mod both;
mod death;
mod start;
mod surroundings;
mod tree;

use both::both;
