//! Becoming another version, and back: real programs that differ in their version, real daemons, and what
//! `/proc` and the file system know of them.

mod asked;
mod bench;
mod clean;
mod deploy;
mod disk;
mod durable;
mod failing;
mod killed;
mod load;
mod noticed;
mod refused;
