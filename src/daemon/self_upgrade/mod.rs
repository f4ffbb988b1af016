//! Becoming another version of itself.
//!
//! ```text
//!            replaced where it lies ─┐                       ┌─ fails ──► said; not tried until it changes
//!   serving ─┤                       ├─► it is tried: `--check` ─ passes ─► nothing runs? ─► execute it
//!            d daemon upgrade asks ──┘                                                         │
//!                                                        same process, same lock, new instance ▼
//!   path and old program as they were ◄── guard ── dead, or not ready ◄── on trial ── ready ──► settled
//! ```
//! The new program is executed in the process of the old one: pid, state lock, standard error, environment
//! and arguments stay, so that systemd, a terminal or whatever else runs it notices nothing, and no moment
//! has two daemons. What is asked for by `d daemon upgrade` lies beside the program and takes its place only
//! when it has been ready for a while: until then the name leads to a version that works, and a crash, a
//! `kill -9` or a lost power line leads back to it.
//!
//! Guarantees: foreground jobs are never cut off by a program that was merely noticed; nothing that was
//! asked of the old daemon is half admitted when it goes: it was either seen through, or will be heard by
//! the new one when its caller repeats it. A version that failed is said, and not tried again.
//!
//! Limits: while the new one comes up nobody listens, some tenths of a second, and a caller that asks in
//! between hears that the peer is offline unless it waits. A broker of the daemon's own is restarted.

mod check;
mod commit;
mod record;
mod watch;

pub use check::{CHECK_TYPE, ELF, ProgramCheck, check, elf};
pub(super) use commit::{OnTrial, settled_before, stand_trial};
pub use commit::{copy_this, install, sync};
pub use record::{BadUpgradeRecord, FILE, UpgradePhase, UpgradeRecord};
pub(super) use watch::{Notice, go};

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a daemon is told about its successors.
#[derive(Debug, Clone, Default)]
pub struct UpgradeSettings {
    /// Whether it looks by itself whether its program was replaced.
    pub notice: bool,
    /// The arguments that try out whether a program would start with the settings of this one.
    pub check: Vec<OsString>,
}

/// What a daemon says of its program, in the state file. One that says nothing cannot hand over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramState {
    /// The file it was started from, which may be another one by now.
    pub path: PathBuf,
    /// The other version it knows of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<UpgradeOutcome>,
}

/// What became of another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeOutcome {
    /// Its version, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether it will not be handed over to.
    pub is_refused: bool,
    /// What it waits for, or what is wrong with it.
    pub why: String,
}
