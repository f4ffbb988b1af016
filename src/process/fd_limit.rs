//! How many descriptors this process may have.
//!
//! A job takes up to eight of a daemon's. The soft limit that most systems begin with, 1,024, is
//! enough for fewer jobs than a daemon runs at once, and without descriptors it could neither start
//! a job nor stop one. So a daemon raises its limit. What it starts has the limit from before, as
//! programs that wait with `select` cannot count further than 1,023.

use std::fs::File;
use std::io;
use std::sync::OnceLock;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Soft and hard limit as they were before.
static BEFORE: OnceLock<(u64, u64)> = OnceLock::new();

/// Allows this process as many descriptors as it may have. To be called once, before any job.
///
/// # Errors
/// What the system says; then the limit is as it was.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    BEFORE.get_or_init(|| (soft, hard));
    Ok(())
}

/// Takes that back, for the next program in this process: it does the same itself.
pub(super) fn as_before() -> io::Result<()> {
    let Some(&(soft, hard)) = BEFORE.get() else { return Ok(()) };
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?)
}

/// The limit for what is started from here, where it is not this process' own.
pub(super) fn of_others() -> Option<libc::rlimit> {
    BEFORE.get().map(|&(soft, hard)| libc::rlimit { rlim_cur: soft, rlim_max: hard })
}

/// Descriptors that are kept for later: what has begun must not fail for want of one.
#[derive(Debug)]
pub(super) struct Reserve {
    _held: [File; Self::HELD],
}

impl Reserve {
    /// As many as it takes to attend to a new process, or to stop it.
    const HELD: usize = 6;

    /// Takes them. They are there for whoever needs one from when this is dropped.
    ///
    /// # Errors
    /// When there are not as many.
    pub(super) fn take() -> io::Result<Self> {
        let held: io::Result<Vec<File>> = (0..Self::HELD).map(|_| File::open("/dev/null")).collect();
        let held = held?.try_into().map_err(|_| io::Error::other("descriptors were miscounted"))?;
        Ok(Self { _held: held })
    }
}
