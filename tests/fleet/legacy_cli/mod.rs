//! The commands under the names, with the flags and the exact texts, that older scripts rely on.
//! Lists and single peers are in `tests/peers.rs`, this machine's own state in `tests/status.rs`,
//! `execOnPeer` itself in `tests/exec`.

mod errors;
mod joining;
mod machine;
mod registry;
mod tasks;
