//! A terminal restored from a snapshot, held against one that was there from the start.
//!
//! For a cut at byte k: a reference terminal is given all the bytes; another one the snapshot at k,
//! and then the bytes after k. Both must be in the same state: every cell, cursor, mode, and what only
//! shows later (margins, tabs, sets of characters), for which both are given the same probes.
//! `cargo nextest run --test screen --no-capture fidelity` prints the number.

mod corpus;
mod hard;
mod random;
mod tmux;
mod whole;
