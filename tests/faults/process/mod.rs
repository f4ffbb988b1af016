//! The operating system's end of a job, on the real system: every case once with a cgroup (where
//! the machine has them) and once with a reaper.

mod bench;
mod blind;
mod death;
mod start;
mod surroundings;
mod terminal;
mod tree;
