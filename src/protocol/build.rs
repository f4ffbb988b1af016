//! Gives the program its version: that of the package, and in a release the commit it was built from.
//!
//! `PEERBUS_COMMIT` names the commit where there is no git to ask. A build of a tree with changes of
//! its own says so.

use std::process::Command;

/// The sources of the program, from here.
const SOURCES: [&str; 3] = ["..", "../../Cargo.toml", "../../Cargo.lock"];

fn main() {
    println!("cargo::rerun-if-env-changed=PEERBUS_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let package = env!("CARGO_PKG_VERSION");
    // A commit in every build would compile everything anew after every commit.
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
