//! The messages on the bus: plain data and pure rules.
//!
//! Every message is one UTF-8 JSON object with a `type`, except output and stdin, which are raw bytes.
//! This crate defines the messages and their order. It uses no sockets, clocks or processes, so unit
//! tests can cover all of it.
//!
//! Guarantees: a value of these types is well formed, because constructors check ids and decoders check
//! requests. Decoders accept unknown JSON fields. Their errors name the missing or wrong field.

/// The version of this program, such as `0.1.0+cb3ae5e1f0`. A release names the commit it was built
/// from.
pub const VERSION: &str = env!("PEERBUS_VERSION");

pub mod attach;
pub mod audit;
pub mod control;
pub mod decode;
pub mod ending;
pub mod exec;
pub mod fleet;
pub mod frame;
pub mod health;
pub mod heartbeat;
pub mod identity;
pub mod ids;
pub mod jetstream;
pub mod jobs;
pub mod peers;
pub mod policy;
pub mod queue;
pub mod reassembly;
pub mod reply;
pub mod send_buffer;
pub mod service;
pub mod signature;
pub mod stdin;
pub mod subjects;
pub mod task;
pub mod tty;
pub mod variables;

pub use decode::BadMessage;
pub use ending::Ending;
pub use ids::{Instance, JobId, PeerId};
pub use tty::TtySize;
