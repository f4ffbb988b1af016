//! `d daemon check`, and `d daemon run --check`: what this program is, for another version of it.

use std::env;
use std::ffi::OsString;

use crate::exit::CliError;
use crate::output;
use peerbus_daemon::self_upgrade::ProgramCheck;

/// Says it, as JSON.
pub(super) fn say() -> Result<u8, CliError> {
    output::json(&ProgramCheck::this())?;
    Ok(0)
}

/// What has another program check whether it would start as this daemon was started.
pub(super) fn of_this() -> Vec<OsString> {
    env::args_os().skip(1).chain(["--check".into()]).collect()
}
