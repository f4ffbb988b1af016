//! The output of one job on disk, addressed by byte.
//!
//! ```text
//!  log/00000000000000000000        the bytes, in the order in which they were read from both streams
//!  log/00000000000000000000.runs   which bytes belong to which stream, and their offsets there
//!  log/00000000000008388608        the next segment, named after its first byte
//!  …
//! ```
//! Each byte has two addresses: its offset in its own stream, and the *combined* offset, its position in the
//! sequence of both. Always: combined = bytes of stdout + bytes of stderr before it. So a client that has
//! received a prefix of each stream knows where to continue.
//!
//! A `.runs` file begins with 16 bytes: the bytes of stdout and of stderr before its segment. One record
//! follows for each change of stream: `combined offset << 1 | stream` (0 stdout, 1 stderr). It is written
//! before the bytes it describes. All numbers are little endian and 8 bytes long. Written data never changes.
//!
//! Guarantees: one [`Writer`] and any number of [`Reader`]s work without coordination. If the writer is
//! killed at any instruction, the log is readable up to the last written byte. Both files together never
//! exceed the limit: the oldest segment is dropped, and a reader that needs it learns where the retained
//! bytes begin.
//!
//! Limit: no fsync. After a power failure the end of the log may be missing or attributed to the other
//! stream. The lengths and digests, which are reported elsewhere, reveal this.

mod reader;
mod segment;
mod writer;

pub use reader::{Extent, Piece, Reader};
pub use writer::Writer;

#[cfg(test)]
mod tests;
