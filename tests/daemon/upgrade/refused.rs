//! What is refused before anything changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::upgrade::bench::{Machine, says};

fn file(machine: &Machine, name: &str, bytes: &[u8]) -> PathBuf {
    let path = machine.fleet.file(name, bytes);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn what_is_no_other_version_changes_nothing() {
    let machine = Machine::new();
    let pid = machine.started();
    let (inode, instance) = (machine.inode(), machine.file("state.json").unwrap()["instance"].clone());
    let foreign = {
        let mut bytes = fs::read(machine.original()).unwrap();
        bytes[18] ^= 0xff;
        file(&machine, "foreign", &bytes)
    };
    let cut = file(&machine, "cut", &fs::read(machine.original()).unwrap()[..200_000]);
    let old = file(&machine, "old", &fs::read("/bin/false").unwrap());
    for (program, words) in [
        (file(&machine, "empty", b""), "no program"),
        (file(&machine, "garbage", &[7; 4096]), "no program of this system"),
        (file(&machine, "script", b"#!/bin/sh\necho 0.1.1 and a little more\n"), "no program of this system"),
        (foreign, "another kind of machine"),
        (cut, "nothing was changed"),
        (old, "exit status: 1"),
        (PathBuf::from("/bin/true"), "no peerbus' d"),
        (machine.fleet.path().join("nowhere"), "nowhere"),
        (machine.fleet.directory("folder"), "folder"),
    ] {
        let refused = machine.upgrade(&program, &[]).run().expect_code(1);
        says(&refused, &[words, "nothing was changed"]);
    }
    let refused = machine.upgrade(&machine.version("0.1.1"), &["--digest", "00"]).run().expect_code(1);
    says(&refused, &["its digest is", "nothing was changed"]);
    assert_eq!(machine.inode(), inode);
    machine.program_is(&machine.original());
    assert!(machine.file("upgrade.json").is_none(), "nobody was asked");
    let status = machine.serves("0.1.0");
    assert_eq!(status["pid"], pid);
    assert_eq!(machine.file("state.json").unwrap()["instance"], instance);
}

/// Root's daemon does not become what others have put there.
#[test]
fn a_program_that_others_can_replace_is_not_taken_up() {
    assert!(nix::unistd::geteuid().is_root(), "root is missing: only its daemon is held to this");
    let machine = Machine::new();
    let pid = machine.started();
    let folder = machine.program.parent().unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    machine.replace_program(&machine.version("0.1.1"));
    machine.logs("others may put another file in its place");
    assert_eq!(machine.serves("0.1.0")["pid"], pid);
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    machine.replace_program(&machine.version("0.1.2"));
    machine.serves("0.1.2");
}

#[test]
fn one_that_would_not_start_with_the_daemons_settings_is_refused_by_it() {
    let machine = Machine::new();
    let settings = machine.fleet.file("settings.toml", "tags = ['home']\n");
    let words = ["daemon", "run", "--config", settings.to_str().unwrap()];
    let mut live = machine.d(words).spawn();
    live.stderr_line(crate::upgrade::bench::SOON, |line| line.starts_with("ready "));
    // What it reads has changed since it was started; the same goes for a version that knows less.
    fs::write(&settings, "tgas = ['home']\n").unwrap();
    let refused = machine.upgrade(&machine.version("0.1.1"), &[]).run().expect_code(1);
    says(&refused, &["the daemon refused it", "tgas", "0.1.0"]);
    assert_eq!(machine.serves("0.1.0")["pid"], live.pid());
    machine.program_is(&machine.original());
    let status = machine.d(["daemon", "status"]).run().expect_success();
    assert!(status.out().contains("is not taken over"), "{status:?}");
    fs::write(&settings, "").unwrap();
    machine.upgrade(&machine.version("0.1.1"), &[]).run().expect_success();
    machine.serves("0.1.1");
}

#[test]
fn a_place_that_cannot_be_written_is_said() {
    let machine = Machine::new();
    machine.started();
    let folder = machine.program.parent().unwrap();
    let fixed = |flag: &str| {
        let done = std::process::Command::new("chattr").args([flag.as_ref(), folder.as_os_str()]).status();
        done.expect("this test needs `chattr`, of the package e2fsprogs").success()
    };
    // Where the file system knows no such flag, as a tmpfs, a file in the way does the same.
    let was_fixed = fixed("+i");
    let refused = if was_fixed {
        machine.upgrade(&machine.version("0.1.1"), &[]).run()
    } else {
        let digest = blake3::hash(machine.state().canonicalize().unwrap().as_os_str().as_encoded_bytes());
        let name = format!(".d.next-{}", &digest.to_hex()[..16]);
        fs::create_dir(folder.join(&name)).unwrap();
        let refused = machine.upgrade(&machine.version("0.1.1"), &[]).run();
        fs::remove_dir(folder.join(name)).unwrap();
        refused
    };
    assert!(!was_fixed || fixed("-i"));
    says(&refused.expect_code(1), &[".d.next-", "nothing was changed"]);
    machine.program_is(Path::new(&machine.original()));
    machine.serves("0.1.0");
}
