//! The daemon's systemd unit, `peerbus.service`. If there is one, only systemd starts the daemon.
//!
//! Root uses the system's unit. Other users use their own, or else the system's, which systemd may
//! refuse. They do not use the system's unit if it belongs to another installation of the program.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::locate::{self, LocatedDaemon, Running};
use super::start::Started;
use crate::exit::CliError;
use crate::output;
use peerbus_process::host;

/// Its name.
const UNIT: &str = "peerbus.service";

/// Lines of its journal to show if it fails.
const LAST_LINES: usize = 20;

/// The systemd manager of the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Machine,
    User,
}

/// The unit of this machine's daemon.
#[derive(Debug)]
pub(super) struct Unit {
    scope: Scope,
}

impl Unit {
    /// The unit, if systemd runs and has one.
    pub(super) fn installed() -> Result<Option<Self>, CliError> {
        // This checks for the directory that systemd creates for this purpose.
        if !sd_notify::booted().unwrap_or(false) {
            return Ok(None);
        }
        let scopes: &[Scope] =
            if host::is_root() { &[Scope::Machine] } else { &[Scope::User, Scope::Machine] };
        for &scope in scopes {
            let unit = Self { scope };
            match unit.property("LoadState") {
                Ok(state) if state.is_empty() || state == "not-found" => {}
                Ok(_) if host::is_root() || scope == Scope::User || unit.is_of_this_installation() => {
                    return Ok(Some(unit));
                }
                Ok(_) => {}
                // Some users have no systemd manager.
                Err(_) if scope == Scope::User => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(None)
    }

    /// Whether it starts this program, as far as systemd reports its program.
    fn is_of_this_installation(&self) -> bool {
        let starts = self.property("ExecStart").unwrap_or_default();
        let program = starts.split_once("path=").and_then(|(_, rest)| rest.split_once(" ;"));
        let Some((program, _)) = program else { return true };
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        env::current_exe().is_ok_and(|own| real(&own) == real(Path::new(program)))
    }

    /// Whether it is active or activating.
    pub(super) fn is_active(&self) -> bool {
        let state = self.property("ActiveState").unwrap_or_default();
        !matches!(state.as_str(), "" | "inactive" | "failed")
    }

    /// Whether the running daemon is the unit's.
    pub(super) fn runs(&self, running: Option<&Running>) -> bool {
        let main = self.property("MainPID").ok().and_then(|pid| pid.parse::<u32>().ok());
        running.is_none_or(|running| main == Some(running.pid()))
    }

    /// Systemd's description of its state, such as `active (running)`.
    pub(super) fn words(&self) -> String {
        let word = |name| self.property(name).unwrap_or_else(|_| "unknown".to_owned());
        format!("{UNIT}: {} ({})", word("ActiveState"), word("SubState"))
    }

    /// Enables it, to start at boot or with the user's session.
    pub(super) fn enable(&self) -> Result<(), CliError> {
        self.ask(&["enable", UNIT])
    }

    pub(super) fn start(&self, directory: &Path) -> Result<Started, CliError> {
        self.change("start")?;
        self.started(directory)
    }

    pub(super) fn restart(&self, directory: &Path) -> Result<Started, CliError> {
        self.change("restart")?;
        self.started(directory)
    }

    /// Stops it; returns what was stopped.
    pub(super) fn stop(&self) -> Result<String, CliError> {
        self.change("stop")?;
        Ok(format!("stopped unit={UNIT}"))
    }

    /// The command that shows its log.
    pub(super) fn journal(&self, lines: usize, follow: bool) -> Command {
        let mut command = self.command("journalctl");
        command.args(["-u", UNIT, "-n", &lines.to_string()]);
        if follow {
            command.arg("-f");
        } else {
            command.arg("--no-pager");
        }
        command
    }

    /// The daemon that it has started.
    fn started(&self, directory: &Path) -> Result<Started, CliError> {
        let pid = self.property("MainPID")?;
        match locate::look(directory) {
            Ok(LocatedDaemon::Runs(running)) if running.pid().to_string() == pid => Ok(Started::Now(running)),
            _ => Ok(Started::ByUnit(format!("unit={UNIT} pid={pid}"))),
        }
    }

    /// Runs systemctl and waits until it is done: the unit reports its readiness.
    fn change(&self, verb: &str) -> Result<(), CliError> {
        let done = output_of(self.command("systemctl").args([verb, UNIT]))?;
        if done.status.success() {
            return Ok(());
        }
        self.show_last_words();
        let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
        let code = self.property("ExecMainStatus").ok().and_then(|code| code.parse().ok());
        let code = code.filter(|&code| code != 0 && verb != "stop").unwrap_or(1);
        Err(CliError::new(code, format!("systemctl {verb} {UNIT}: {}: {said}", done.status)))
    }

    fn ask(&self, words: &[&str]) -> Result<(), CliError> {
        done(self.command("systemctl").args(words), words)
    }

    fn show_last_words(&self) {
        let words = output_of(self.journal(LAST_LINES, false).args(["-o", "cat"]));
        // If the journal is not readable, systemctl's message has named it.
        if let Ok(words) = words {
            String::from_utf8_lossy(&words.stdout).lines().for_each(output::complain);
        }
    }

    fn property(&self, name: &str) -> Result<String, CliError> {
        let shown = output_of(self.command("systemctl").args(["show", "--property", name, "--value", UNIT]))?;
        if shown.status.success() {
            return Ok(String::from_utf8_lossy(&shown.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&shown.stderr).trim().to_owned();
        Err(CliError::other(format!("asking systemd for {UNIT}: {}: {said}", shown.status)))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if self.scope == Scope::User {
            command.arg("--user");
        }
        command
    }
}

/// Whether a system unit is active; false without systemd.
pub(crate) fn is_unit_active(unit: &str) -> Result<bool, CliError> {
    if !sd_notify::booted().unwrap_or(false) {
        return Ok(false);
    }
    Ok(output_of(Command::new("systemctl").args(["is-active", "--quiet", unit]))?.status.success())
}

/// Stops and disables a system unit.
pub(crate) fn disable_unit(unit: &str) -> Result<(), CliError> {
    systemctl(&["disable", "--now", unit])
}

/// Runs systemctl for the system's manager.
pub(super) fn systemctl(words: &[&str]) -> Result<(), CliError> {
    done(Command::new("systemctl").args(words), words)
}

fn done(command: &mut Command, words: &[&str]) -> Result<(), CliError> {
    let done = output_of(command)?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
    Err(CliError::other(format!("systemctl {}: {}: {said}", words.join(" "), done.status)))
}

fn output_of(command: &mut Command) -> Result<Output, CliError> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.output().map_err(|error| CliError::other(format!("running {name}: {error}")))
}
