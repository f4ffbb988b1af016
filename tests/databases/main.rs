//! The registry on every database it knows: the same cases on SQLite, MariaDB and PostgreSQL, each
//! the real one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

#[path = "../harness/mod.rs"]
mod harness;

#[macro_use]
mod bench;

mod file;
mod older;
mod outages;
mod rights;
mod rows;
mod start;
