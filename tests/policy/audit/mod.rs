//! The audit log: who asked for what and what became of it, in lines that nobody changes unseen.

mod bench;
mod content;
mod heard;
mod many;
mod members;
mod tampering;
mod trouble;
