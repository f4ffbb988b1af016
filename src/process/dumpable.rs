//! Protects this process' memory, which holds credentials and the environment of jobs.

/// Excludes this process from core dumps, and hides its memory and environment from other processes of the
/// same user, such as jobs. The setting ends with exec, so jobs are normal processes.
///
/// # Errors
/// The system's error; nothing has changed.
pub fn keep_memory_private() -> std::io::Result<()> {
    nix::sys::prctl::set_dumpable(false).map_err(Into::into)
}
