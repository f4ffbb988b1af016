//! `d doctor --clean`: what daemons of this machine have left running, and stopping it.

use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::args::Common;
use crate::exit::{CANCELLED, CliError, OTHER};
use crate::output;
use crate::settings::Settings;
use peerbus_daemon::orphans::{self, Kind, Orphan};
use peerbus_process::ProcessKey;
use peerbus_protocol::ending::with_causes;

/// How it is to be done.
pub(super) struct CleanOptions {
    pub(super) yes: bool,
    pub(super) json: bool,
}

/// Shows what was left, and stops it where that is wanted.
pub(super) async fn run(common: &Common, wish: CleanOptions) -> Result<u8, CliError> {
    let directory = Settings::read(common)?.state_dir();
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    let failed = |error: anyhow::Error| {
        CliError::other(format!("{}: {}", directory.display(), with_causes(error.as_ref())))
    };
    let found = orphans::find(&directory).await.map_err(failed)?;
    let provable = found.iter().filter(|orphan| orphan.kind != Kind::Unproved).count();
    if !wish.json {
        show(&directory, &found)?;
    }
    let stopped = match provable {
        0 => None,
        _ if wish.yes || agreed(&wish, provable)? => {
            Some(orphans::stop(&directory, &found).await.map_err(failed)?)
        }
        _ => None,
    };
    if wish.json {
        output::json(&as_json(&directory, &found, stopped.as_deref()))?;
    } else {
        for (orphan, stopped) in found.iter().zip(stopped.iter().flatten()) {
            output::line(&match stopped {
                Ok(count) => format!("stopped {}: {count} processes", orphan.job),
                Err(why) => format!("{}: {why}", orphan.job),
            })?;
        }
    }
    match stopped {
        Some(stopped)
            if found
                .iter()
                .zip(&stopped)
                .any(|(orphan, stopped)| stopped.is_err() && orphan.kind != Kind::Unproved) =>
        {
            Ok(OTHER)
        }
        None if provable > 0 => {
            if !wish.json {
                output::say("nothing was stopped; --yes stops it without asking");
            }
            Ok(OTHER)
        }
        _ => Ok(0),
    }
}

fn show(directory: &Path, found: &[Orphan]) -> Result<(), CliError> {
    if found.is_empty() {
        return output::line(&format!("nothing was left running by a daemon on {}", directory.display()));
    }
    for orphan in found {
        let command = orphan.command.as_ref().map_or_else(String::new, |command| format!(": {command}"));
        let word = if orphan.kind == Kind::Unproved { "left alone: " } else { "" };
        output::line(&format!("{}{command}", orphan.job))?;
        output::line(&format!("  {word}{}", orphan.why))?;
        for process in &orphan.processes {
            output::line(&format!("  process {}  {}", process.pid, program(process)))?;
        }
    }
    Ok(())
}

fn agreed(wish: &CleanOptions, count: usize) -> Result<bool, CliError> {
    if wish.json || !io::stdin().is_terminal() {
        return Ok(false);
    }
    output::say(&format!("stop {count} of these, with all their processes? [y/N]"));
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(|error| CliError::other(format!("reading the answer: {error}")))?;
    match line.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(true),
        _ => Err(CliError::new(CANCELLED, "nothing was stopped")),
    }
}

/// What it runs, for people: nothing is decided by it.
fn program(process: &ProcessKey) -> String {
    let words = fs::read(PathBuf::from(format!("/proc/{}/cmdline", process.pid))).unwrap_or_default();
    let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    words.join(" ").trim().chars().take(100).collect()
}

fn as_json(directory: &Path, found: &[Orphan], stopped: Option<&[Result<u32, String>]>) -> serde_json::Value {
    let orphan = |(at, orphan): (usize, &Orphan)| {
        let outcome = stopped.and_then(|stopped| stopped.get(at));
        json!({
            "id": orphan.job,
            "kind": match orphan.kind {
                Kind::Job => "job",
                Kind::Rest => "rest",
                Kind::Shim => "shim",
                Kind::Unproved => "unproved",
            },
            "why": orphan.why,
            "command": orphan.command,
            "processes": orphan.processes.iter().map(|process| process.pid).collect::<Vec<_>>(),
            "stopped": outcome.and_then(|outcome| outcome.as_ref().ok()),
            "error": outcome.and_then(|outcome| outcome.as_ref().err()),
        })
    };
    json!({
        "state_dir": directory.display().to_string(),
        "orphans": found.iter().enumerate().map(orphan).collect::<Vec<_>>(),
    })
}
