//! Sets the program's version: the package version, plus the commit in release builds.
//!
//! `PEERBUS_COMMIT` names the commit if git is unavailable. The version marks a build from a modified
//! tree.

use std::process::Command;

/// The program's sources, relative to this crate.
const SOURCES: [&str; 3] = ["..", "../../Cargo.toml", "../../Cargo.lock"];

fn main() {
    println!("cargo::rerun-if-env-changed=PEERBUS_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let package = env!("CARGO_PKG_VERSION");
    // Debug builds omit the commit; otherwise every commit would rebuild everything.
    let build = match std::env::var("PROFILE").as_deref() {
        Ok("release") => commit(),
        _ => Some("debug".to_owned()),
    };
    let version = build.map_or(package.to_owned(), |build| format!("{package}+{build}"));
    println!("cargo::rustc-env=PEERBUS_VERSION={version}");
}

fn commit() -> Option<String> {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    if let Ok(named) = std::env::var("PEERBUS_COMMIT") {
        return Some(named).filter(|named| !named.is_empty());
    }
    if let Some(history) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={history}");
    }
    let commit = git(&["rev-parse", "--short=10", "HEAD"])?;
    let mut changes = vec!["status", "--porcelain", "--"];
    changes.extend(SOURCES);
    let changed = git(&changes).is_some_and(|changes| !changes.is_empty());
    Some(if changed { format!("{commit}.changed") } else { commit })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}
