//! The descriptor limit of this process.
//!
//! A job takes up to eight descriptors of a daemon. The usual soft limit of 1,024 is not enough for all jobs
//! of a daemon, and without descriptors it can neither start nor stop one. So a daemon raises its limit. Its
//! child processes get the original limit, because `select` cannot handle descriptors above 1,023.

use std::fs::File;
use std::io;
use std::sync::OnceLock;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The original soft and hard limit.
static BEFORE: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises the soft limit to the hard limit. Call this once, before any job.
///
/// # Errors
/// The system's error; the limit is unchanged.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    BEFORE.get_or_init(|| (soft, hard));
    Ok(())
}

/// Restores the original limit for the next program in this process, which raises it again.
pub(super) fn as_before() -> io::Result<()> {
    let Some(&(soft, hard)) = BEFORE.get() else { return Ok(()) };
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?)
}

/// The limit for child processes, if it differs from this process' own.
pub(super) fn of_others() -> Option<libc::rlimit> {
    BEFORE.get().map(|&(soft, hard)| libc::rlimit { rlim_cur: soft, rlim_max: hard })
}

/// Reserved descriptors, so that an operation does not fail halfway for lack of them.
#[derive(Debug)]
pub(super) struct Reserve {
    _held: [File; Self::HELD],
}

impl Reserve {
    /// As many as are needed to supervise a new process or to stop it.
    const HELD: usize = 6;

    /// Reserves the descriptors. Dropping this frees them.
    ///
    /// # Errors
    /// When there are not enough.
    pub(super) fn take() -> io::Result<Self> {
        let held: io::Result<Vec<File>> = (0..Self::HELD).map(|_| File::open("/dev/null")).collect();
        let held = held?.try_into().map_err(|_| io::Error::other("descriptors were miscounted"))?;
        Ok(Self { _held: held })
    }
}
