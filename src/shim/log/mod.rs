//! The output of one job on disk, addressed by byte.
//!
//! ```text
//!  log/00000000000000000000        the bytes, in the order in which they were read from both streams
//!  log/00000000000000000000.runs   where they stand in their streams, and which bytes are of which
//!  log/00000000000008388608        the next segment, named after its first byte
//!  …
//! ```
//! A byte has two addresses: its place in its own stream, and the *combined* one, its place in the
//! sequence of both. Always: combined = bytes of stdout + bytes of stderr before it. So whoever has
//! received some of each without a hole knows where to go on.
//!
//! A file of runs begins with 16 bytes, how much of stdout and of stderr came before its segment; then
//! comes one record for each change of stream, `combined offset << 1 | stream` (0 stdout, 1 stderr),
//! written before the bytes that it is about. All numbers are little endian and 8 bytes long. Nothing
//! that was written is changed.
//!
//! Guarantees: one [`Writer`] and any number of [`Reader`]s need not know of each other. A writer
//! that is killed at whatever instruction leaves a log that reads up to the last byte it had written. Both files
//! together never take more than the limit: the oldest segment goes, and a reader that wants it is told
//! from where there is something again.
//!
//! Limit: nobody waits for the disk itself. After a power failure the end of a log may be missing, and
//! what is the last of it may be shown under the other stream; lengths and digests, which are told
//! elsewhere, show it.

mod reader;
mod segment;
mod writer;

pub use reader::{Extent, Piece, Reader};
pub use writer::Writer;

#[cfg(test)]
mod tests;
