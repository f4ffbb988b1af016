//! Asking the fleet: start a job and follow it to its end, list peers, find one, ping one.
//!
//! This folder yields typed events and answers and prints nothing, so that a command line, a
//! gateway or a test can stand on it alike. Guarantees: a request is never sent twice under two
//! ids; every execution ends in exactly one [`Ending`](peerbus_protocol::Ending); a list of peers is
//! whole or an error. It does not know terminals, exit codes or configuration files.

pub mod audit;
pub mod control;
pub mod exec;
pub mod jobs;
pub mod peers;
pub mod policy;
pub mod queue;
pub mod resolve;
mod verify;

pub use peers::RegistryError;
pub use resolve::{NotFound, Resolution};
