//! The operating system's end of a job.
