//! The front door of `d`: nothing is decided here.

fn main() {}
