//! What is in this process' memory is nobody else's: credentials, and the variables of jobs.

/// Keeps this process out of core dumps, and its memory and environment from other processes of the
/// same user, which a job may be. What it executes begins anew, so jobs are as any other process.
///
/// # Errors
/// What the system says; then everything is as it was.
pub fn keep_memory_private() -> std::io::Result<()> {
    nix::sys::prctl::set_dumpable(false).map_err(Into::into)
}
