//! Systemd's unit of a daemon, `peerbus.service`: where there is one, systemd alone starts the daemon.
//!
//! Root asks for the machine's unit. Anybody else asks for their own, and where they have none for the
//! machine's, which systemd may refuse them; but not where that is of another installation than this program is,
//! which has nothing to do with it.

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

/// The last lines of its journal that are shown when it fails.
const LAST_LINES: usize = 20;

/// Whose unit it is.
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
    /// The unit, where systemd runs and has one.
    pub(super) fn installed() -> Result<Option<Self>, CliError> {
        // Systemd makes a directory for exactly this question.
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
                // Not everybody has a manager of their own.
                Err(_) if scope == Scope::User => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(None)
    }

    /// Whether it starts this program, as far as systemd says which one it starts.
    fn is_of_this_installation(&self) -> bool {
        let starts = self.property("ExecStart").unwrap_or_default();
        let program = starts.split_once("path=").and_then(|(_, rest)| rest.split_once(" ;"));
        let Some((program, _)) = program else { return true };
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        env::current_exe().is_ok_and(|own| real(&own) == real(Path::new(program)))
    }

    /// Whether systemd runs it, or is about to.
    pub(super) fn is_active(&self) -> bool {
        let state = self.property("ActiveState").unwrap_or_default();
        !matches!(state.as_str(), "" | "inactive" | "failed")
    }

    /// Whether this daemon is the unit's, as far as there is one.
    pub(super) fn runs(&self, running: Option<&Running>) -> bool {
        let main = self.property("MainPID").ok().and_then(|pid| pid.parse::<u32>().ok());
        running.is_none_or(|running| main == Some(running.pid()))
    }

    /// What systemd says of it, such as `active (running)`.
    pub(super) fn words(&self) -> String {
        let word = |name| self.property(name).unwrap_or_else(|_| "unknown".to_owned());
        format!("{UNIT}: {} ({})", word("ActiveState"), word("SubState"))
    }

    /// Has it start with the machine, or with its person's session.
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

    /// Stops it; says what was stopped.
    pub(super) fn stop(&self) -> Result<String, CliError> {
        self.change("stop")?;
        Ok(format!("stopped unit={UNIT}"))
    }

    /// What shows its log.
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

    /// Which daemon it is now.
    fn started(&self, directory: &Path) -> Result<Started, CliError> {
        let pid = self.property("MainPID")?;
        match locate::look(directory) {
            Ok(LocatedDaemon::Runs(running)) if running.pid().to_string() == pid => Ok(Started::Now(running)),
            _ => Ok(Started::ByUnit(format!("unit={UNIT} pid={pid}"))),
        }
    }

    /// Has systemd do something, and waits until it is done: the unit tells when it is ready.
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
        // A journal that may not be read has been named by systemctl.
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

/// Whether the machine's systemd runs a unit; no, where there is no systemd.
pub(crate) fn is_unit_active(unit: &str) -> Result<bool, CliError> {
    if !sd_notify::booted().unwrap_or(false) {
        return Ok(false);
    }
    Ok(output_of(Command::new("systemctl").args(["is-active", "--quiet", unit]))?.status.success())
}

/// Stops a unit of the machine, for good.
pub(crate) fn disable_unit(unit: &str) -> Result<(), CliError> {
    systemctl(&["disable", "--now", unit])
}

/// Asks the machine's systemd for something.
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
