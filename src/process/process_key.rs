//! Which process is meant, beyond doubt: a pid alone is used again after a while.

use std::io;

use serde::{Deserialize, Serialize};

use super::host;
use super::stat::Stat;

/// Names one process of one boot of this machine. Small enough to be journalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
    pub start_time: u64,
    /// The boot those ticks count from.
    pub boot_id: String,
}

impl ProcessKey {
    /// That of the calling process.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn of_self() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let stat = Stat::of(pid)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no process {pid} in /proc")))?;
        Ok(Self { pid, start_time: stat.start_time, boot_id: host::boot_id()? })
    }

    /// Whether that very process runs now. A zombie does not.
    ///
    /// # Errors
    /// When that cannot be looked up, as without a free descriptor.
    pub fn is_alive(&self) -> io::Result<bool> {
        if host::boot_id()? != self.boot_id {
            return Ok(false);
        }
        let now = Stat::of(self.pid)?;
        Ok(now.is_some_and(|now| now.is_running && now.start_time == self.start_time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_of_the_same_pid_is_not_meant() {
        let own = ProcessKey::of_self().expect("own identity");
        let is_alive = |identity: &ProcessKey| identity.is_alive().expect("looked up");
        assert!(is_alive(&own));
        assert!(!is_alive(&ProcessKey { start_time: own.start_time + 1, ..own.clone() }));
        assert!(!is_alive(&ProcessKey { boot_id: "another".to_owned(), ..own }));
    }
}
