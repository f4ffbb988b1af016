//! A small process per job that keeps the job's tree together where no cgroup can.
//!
//! ```text
//!  daemon ──socket── reaper (child subreaper) ── command ── …
//!           order →                                └ orphans come back to the reaper
//!           ← started | failed, exited, empty
//!           release →
//! ```
//!
//! Every orphan of the tree becomes the reaper's child, so the tree is whatever is below it. The
//! reaper holds a kernel lock on a file for as long as something of the job may live. Its daemon has
//! taken that lock before there is a reaper, which inherits it: there is no moment at which something
//! may still be started and the lock is free.
//!
//! | what happens | what the reaper does |
//! |---|---|
//! | nothing of the tree is left | says so, removes its file, ends |
//! | `release` | removes its file, ends; what still runs is left alone |
//! | the socket closes: the daemon died | stops the tree, writes how many into its file, ends |
//! | it does not do any of that in time | it is killed: the lock's file says which process it is |
//! | the reaper itself is killed | the lock is free: the rest is found by `PEERBUS_JOB` in its environment |
//!
//! The socket carries JSON, one message a line.

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

/// How long a tree may take to end by itself when its daemon has died.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// The one line a daemon sends besides its order.
const RELEASE: &str = "release";

/// What to run, and the file that is locked meanwhile.
#[derive(Debug, Serialize, Deserialize)]
struct ReaperSpec {
    spec: Spec,
    lock: PathBuf,
}

/// What the reaper says, in this order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReaperEvent {
    /// The command runs. Else it is `Failed`, and the last report.
    Started(ProcessKey),
    /// The command could not be started.
    Failed(StartError),
    /// The command itself has ended.
    Exited(Exit),
    /// Nothing of the tree is left, and the reaper ends.
    Empty,
}

/// A message as it is sent.
fn line(message: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}
