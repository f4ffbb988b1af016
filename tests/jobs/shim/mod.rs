//! Shims of durable jobs, with the real program: every byte is kept whatever becomes of those who read
//! along, no end is lost, and nothing is left behind.

mod bench;
mod death;
mod disk;
mod endings;
mod golden;
mod input;
mod many;
mod output;
mod start;
mod steps;
mod strange;
