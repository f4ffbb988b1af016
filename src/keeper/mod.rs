//! One durable job, in a process of its own.

pub mod screen;
