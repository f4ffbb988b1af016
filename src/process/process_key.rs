//! Identifies a process uniquely: a pid alone may be reused.

use std::io;

use serde::{Deserialize, Serialize};

use super::host;
use super::stat::Stat;

/// Identifies one process of one boot of this machine. Small enough for the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
    pub start_time: u64,
    /// The boot id.
    pub boot_id: String,
}

impl ProcessKey {
    /// The key of the calling process.
    ///
    /// # Errors
    /// When `/proc` is missing.
    pub fn of_self() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let stat = Stat::of(pid)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no process {pid} in /proc")))?;
        Ok(Self { pid, start_time: stat.start_time, boot_id: host::boot_id()? })
    }

    /// Whether exactly this process runs now. A zombie does not count.
    ///
    /// # Errors
    /// When this cannot be checked, for example for lack of descriptors.
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
