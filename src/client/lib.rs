//! Requests to the fleet: run and follow jobs, list, find and ping peers.
//!
//! This crate returns typed events and answers and prints nothing, so that a command line, a gateway or
//! a test can use it. It does not know terminals, exit codes or configuration files.
//!
//! Guarantees: the client never sends one request under two ids. Every execution ends in exactly one
//! [`Ending`](peerbus_protocol::Ending). A list of peers is complete or an error.

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
