//! The daemon's life from the command line: `d daemon start`, `stop`, `restart`, `status`, `logs`.
//! What is said of a daemon is held against what `/proc` knows of it.

mod bench;
mod logs;
mod refusals;
mod restart;
mod start;
mod status;
mod stop;
mod unit;
