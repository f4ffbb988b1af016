//! The log of a daemon: one line a job, nothing secret, nothing forged, and silence at rest.

mod bench;
mod jobs;
mod journal;
mod levels;
mod secrets;
mod silence;
