//! Having this machine's daemon run from now on: by systemd where that is, else without a terminal.
//!
//! Where root asks, systemd is there and has no unit for the daemon, the unit is written: the one that is
//! installed with the package, with this very program in it.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::restart::run_anew;
use super::unit::{Unit, systemctl};
use crate::args::Common;
use crate::exit::CliError;
use crate::output;
use crate::settings::is_machines_config;
use peerbus_process::host;

/// The unit, as it is installed with the package.
const TEXT: &str = include_str!("../../../deploy/peerbus.service");

/// Where units of the machine's owner are.
const UNITS: &str = "/etc/systemd/system";

/// Sees to it that a daemon runs with the settings in force, now and, where systemd starts it, after each
/// boot. One that runs is restarted. Returns when it is ready.
pub(crate) async fn settle(common: &Common) -> Result<(), CliError> {
    install_unit(common)?;
    run_anew(common).await
}

/// Has the daemon start with the machine, by a unit that is written where there is none. Where that cannot be had it is
/// said.
pub(crate) fn install_unit(common: &Common) -> Result<(), CliError> {
    let unit = match Unit::installed()? {
        None if may_install(common) => {
            install(Path::new(UNITS))?;
            Unit::installed()?
        }
        found => found,
    };
    match &unit {
        Some(unit) => unit.enable(),
        None => {
            output::say(
                "no unit of systemd starts the daemon, so it does not come back by itself after a reboot",
            );
            Ok(())
        }
    }
}

/// The unit reads the machine's configuration, so it is for that alone.
fn may_install(common: &Common) -> bool {
    sd_notify::booted().unwrap_or(false) && host::is_root() && is_machines_config(common)
}

fn install(units: &Path) -> Result<(), CliError> {
    let path = units.join("peerbus.service");
    let program = env::current_exe()
        .map_err(|error| CliError::other(format!("finding out where this program is: {error}")))?;
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(units)?;
        file.write_all(text(&program.display().to_string()).as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(&path)?;
        Ok(())
    };
    write().map_err(|error| CliError::other(format!("writing the unit {}: {error}", path.display())))?;
    systemctl(&["daemon-reload"])?;
    output::say(&format!("wrote {}", path.display()));
    Ok(())
}

/// The unit with this program in it.
fn text(program: &str) -> String {
    let word = program.replace('%', "%%").replace('\\', "\\\\").replace('"', "\\\"");
    let lines = TEXT.lines().map(|line| match line.strip_prefix("ExecStart=") {
        Some(command) => {
            let arguments = command.split_once(' ').map(|(_, arguments)| arguments).unwrap_or_default();
            format!("ExecStart=\"{word}\" {arguments}\n")
        }
        None => format!("{line}\n"),
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_this_very_program() {
        let text = text("/opt/a b/50%/d");
        let start: Vec<&str> = text.lines().filter(|line| line.starts_with("ExecStart=")).collect();
        assert_eq!(start, ["ExecStart=\"/opt/a b/50%%/d\" daemon run"]);
        assert_eq!(text.lines().count(), TEXT.lines().count());
    }
}
