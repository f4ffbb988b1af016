//! The reaper: a small process per job that keeps track of the job's processes where no cgroup is available.
//!
//! ```text
//!  daemon ──socket── reaper (child subreaper) ── command ── …
//!           order →                                └ orphans come back to the reaper
//!           ← started | failed, exited, empty
//!           release →
//! ```
//!
//! Every orphan becomes a child of the reaper, so the job's processes are all those below it. The reaper
//! holds a kernel lock on a file for as long as a process of the job may live. The daemon takes that lock
//! before it starts the reaper, which inherits it. So the lock is never free while a process may still start.
//!
//! | event | action |
//!  |---|---|
//! | no process is left | the reaper reports this, removes its file and exits |
//! | `release` | the reaper removes its file and exits; remaining processes keep running |
//! | the socket closes: the daemon died | the reaper stops all processes, writes their number to its file and exits |
//! | the reaper hangs | it is killed: the lock file identifies it |
//! | the reaper itself is killed | the lock is free: `PEERBUS_JOB` identifies the remaining processes |
//!
//! The socket carries JSON, one message per line.

mod client;
mod subreaper;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pidfd::Exit;
use super::process_key::ProcessKey;
use super::spec::{Spec, StartError};

pub(super) use client::{release, start};
pub use subreaper::reaper_main;

/// Time between SIGTERM and SIGKILL after the daemon has died.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// The only line that a daemon sends after its order.
const RELEASE: &str = "release";

/// What to run, and the lock file.
#[derive(Debug, Serialize, Deserialize)]
struct ReaperSpec {
    spec: Spec,
    lock: PathBuf,
}

/// The reaper's events, in this order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReaperEvent {
    /// The command is running. Otherwise `Failed` is the only event.
    Started(ProcessKey),
    /// The command could not be started.
    Failed(StartError),
    /// The command itself has exited.
    Exited(Exit),
    /// No process is left, and the reaper exits.
    Empty,
}

/// Encodes a message.
fn line(message: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}
