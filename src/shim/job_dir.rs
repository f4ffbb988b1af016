//! The directory of one durable job: `<state directory>/jobs/<job>/`.
//!
//! | file | content | written by |
//!  |---|---|---|
//! | `lock` | locked while the job's shim runs; the only liveness test | daemon, then shim |
//! | `shim.json` | [`ShimInfo`]; written before the command runs | shim |
//! | `socket` | where the shim listens | shim |
//! | `log/` | the job's output, see [`log`](super::log) | shim |
//! | `ended.json` | [`JobEnd`], the outcome; written before the shim exits | shim |
//! | `shim.log` | the shim's own log, a few lines | shim |

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::messages::{JobEnd, ShimInfo};
use peerbus_protocol::JobId;

/// The name of the socket.
pub(super) const SOCKET: &str = "socket";

/// The directory of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDir {
    directory: PathBuf,
}

impl JobDir {
    /// The directory of a job in a daemon's state directory. Does not create it.
    #[must_use]
    pub fn of(state_dir: &Path, job: JobId) -> Self {
        Self::at(state_dir.join("jobs").join(job.to_string()))
    }

    /// All jobs with a directory, in the order of their requests.
    ///
    /// # Errors
    /// When the parent directory exists but cannot be read.
    pub fn all(state_dir: &Path) -> io::Result<Vec<(JobId, Self)>> {
        let entries = match fs::read_dir(state_dir.join("jobs")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry?;
            let job = entry.file_name().to_str().and_then(|name| name.parse().ok());
            all.extend(job.map(|job| (job, Self::at(entry.path()))));
        }
        all.sort_by_key(|(job, _): &(JobId, Self)| *job);
        Ok(all)
    }

    pub(super) fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The directory itself.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory of the job's output, for a [`Reader`](super::log::Reader).
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The shim's description of itself; `None` if it was never written.
    ///
    /// # Errors
    /// When the file exists but cannot be read.
    pub fn about(&self) -> io::Result<Option<ShimInfo>> {
        read(&self.about_file())
    }

    /// The job's outcome; `None` if it was never written.
    ///
    /// # Errors
    /// When the file exists but cannot be read.
    pub fn ended(&self) -> io::Result<Option<JobEnd>> {
        read(&self.ended_file())
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    pub(super) fn about_file(&self) -> PathBuf {
        self.directory.join("shim.json")
    }

    pub(super) fn ended_file(&self) -> PathBuf {
        self.directory.join("ended.json")
    }

    pub(super) fn said(&self) -> PathBuf {
        self.directory.join("shim.log")
    }
}

/// The socket via an open directory: a path short enough for a socket, valid while the directory is open.
pub(super) fn socket_in(directory: &File) -> PathBuf {
    format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()).into()
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let broken = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()));
    peerbus_protocol::decode::json(&text).map(Some).map_err(broken)
}
