//! Durable jobs, with real servers and real daemons: they outlive callers, links, daemons and brokers. Each time the
//! command ran once, its output is whole to the byte or said to be lost, and how it ended is known to everybody who
//! may ask.

mod bench;
mod burst;
mod daemons;
mod damage;
mod limits;
mod once;
mod output;
mod rights;
mod shims;
mod silent;
mod storm;
mod viewers;
mod writers;
