//! Whatever comes from the bus: every decoder, given what it should get, changed at random, and what was
//! kept because it is nasty. None may end its process, and what it takes it can say again.
//!
//! Real messages are those of `tests/golden`; `tests/fuzz/corpus` holds what every decoder is given as it
//! is. A failure is written down in `tests/fuzz/regressions.txt` and tried first the next time.

mod changes;
mod decoders;
mod nested;
