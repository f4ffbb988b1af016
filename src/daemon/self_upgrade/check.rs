//! Checks whether a file is a program that could take over, before anything changes.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use peerbus_process::ownership;
use peerbus_protocol::decode;

/// The `type` of a checked program's answer.
pub const CHECK_TYPE: &str = "peerbus.check.v1";

/// Timeout of the check. The program only reads its settings.
const SAYS_WITHIN: Duration = Duration::from_secs(20);

/// A program's answer to the check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramCheck {
    /// Always [`CHECK_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Its version.
    pub version: String,
}

impl ProgramCheck {
    /// The answer of this program.
    #[must_use]
    pub fn this() -> Self {
        Self { kind: CHECK_TYPE.to_owned(), version: peerbus_protocol::VERSION.to_owned() }
    }
}

/// Runs a program to check whether it would start.
///
/// # Errors
/// A sentence that names the problem.
pub async fn check(program: &Path, arguments: &[OsString]) -> Result<ProgramCheck, String> {
    elf(program)?;
    // Even the check runs it as the daemon's user.
    ownership::check_for_root(program)?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // The check sends no readiness notification.
    command.env_remove("NOTIFY_SOCKET").kill_on_drop(true);
    let run = command.output();
    let done = match tokio::time::timeout(SAYS_WITHIN, run).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => return Err(format!("it cannot be run: {error}")),
        Err(_) => return Err(format!("it said nothing within {} s", SAYS_WITHIN.as_secs())),
    };
    let said = String::from_utf8_lossy(&done.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it did not say why");
    if !done.status.success() {
        return Err(format!("{}: {}", done.status, last.trim_start_matches("d: ")));
    }
    match decode::json::<ProgramCheck>(done.stdout.trim_ascii()) {
        Ok(checked) if checked.kind == CHECK_TYPE => Ok(checked),
        _ => Err("it is no peerbus' d, or one that is too old to say whether it would start".to_owned()),
    }
}

/// Bytes of the ELF header that name the target machine.
pub const ELF: usize = 20;

/// Checks without running it whether a file is a program for this machine.
///
/// # Errors
/// A sentence that says what the file is.
pub fn elf(program: &Path) -> Result<(), String> {
    let head = |path: &Path| -> io::Result<[u8; ELF]> {
        let mut head = [0; ELF];
        File::open(path)?.read_exact(&mut head)?;
        Ok(head)
    };
    let other = match head(program) {
        Ok(other) => other,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err("it is no program".to_owned());
        }
        Err(error) => return Err(format!("it cannot be read: {error}")),
    };
    if &other[..4] != b"\x7fELF" {
        return Err("it is no program of this system (no ELF file)".to_owned());
    }
    let own = head(Path::new("/proc/self/exe")).map_err(|error| format!("reading this program: {error}"))?;
    // Word size, byte order, and machine type.
    if other[4..6] != own[4..6] || other[18..20] != own[18..20] {
        return Err(format!("it is for another kind of machine than this one ({})", std::env::consts::ARCH));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_d_is_told_from_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            path
        };
        let why = |path: std::path::PathBuf| async move { check(&path, &[]).await.expect_err("no d") };
        assert!(why(file("short", b"#!")).await.contains("no program"));
        assert!(why(file("script", b"#!/bin/sh\necho 0.1.0 # and a little more\n")).await.contains("no ELF"));
        let mut foreign = std::fs::read("/proc/self/exe").expect("this program");
        foreign[18] ^= 0xff;
        assert!(why(file("foreign", &foreign)).await.contains("another kind of machine"));
        assert!(why("/bin/true".into()).await.contains("no peerbus' d"));
        assert!(why("/bin/false".into()).await.contains("exit status: 1"));
    }
}
