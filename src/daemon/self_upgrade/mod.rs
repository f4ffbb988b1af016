//! Replaces the running daemon by another version.
//!
//! ```text
//!            program file replaced ──┐                       ┌─ fails ──► logged; not tried until it changes
//!   serving ─┤                       ├─► check: `--check` ───┴─ passes ─► no jobs running? ─► exec
//!            `d daemon upgrade` ─────┘                                                         │
//!                                                        same process, same lock, new instance ▼
//!   old path and program restored ◄── guard ◄── dead, or not ready ◄── on trial ── ready ──► committed
//! ```
//! The old process executes the new program. The pid, state lock, standard error, environment and arguments stay,
//! so the supervisor notices nothing and there are never two daemons. `d daemon upgrade` stages the program beside
//! the old one. It takes that one's place only after it has been ready for a while. Until then the path leads to a
//! working version, and a crash, `kill -9` or power loss leads back to it.
//!
//! Guarantees:
//! - Noticing a replaced program file never interrupts foreground jobs.
//! - No request is half admitted at a handover. The old daemon completes it, or the new one gets it when the caller
//!   repeats it.
//! - A failed version is reported and not tried again.
//!
//! Limits: while the new version starts, nobody listens for some tenths of a second. A caller in that time sees the
//! peer as offline unless it waits. A managed broker is restarted.

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

/// The upgrade settings of a daemon.
#[derive(Debug, Clone, Default)]
pub struct UpgradeSettings {
    /// Whether the daemon watches its program file for replacement.
    pub notice: bool,
    /// Arguments for checking whether a program would start with these settings.
    pub check: Vec<OsString>,
}

/// The daemon's program, as the state file reports it. A daemon that reports none cannot hand over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramState {
    /// The file it was started from. That path may hold another file by now.
    pub path: PathBuf,
    /// The other version it knows of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<UpgradeOutcome>,
}

/// The state of another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeOutcome {
    /// Its version, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether the daemon refuses to hand over to it.
    pub is_refused: bool,
    /// What the upgrade waits for, or why it failed.
    pub why: String,
}
