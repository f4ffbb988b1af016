//! Whatever is done to the files is seen, by whoever looks, and where.

use std::fs::{self, OpenOptions};
use std::path::Path;

use serde_json::json;

use crate::audit::bench::{ask, expect_broken, expect_sound, files, folder, run_one};
use crate::harness::fleet::{DaemonOptions, Fleet};

/// Changes a file, has it looked at, and puts it back as it was.
#[track_caller]
fn broken_by(fleet: &Fleet, path: &Path, change: impl FnOnce(&Path)) -> String {
    let before = fs::read(path).unwrap();
    change(path);
    let said = expect_broken(fleet);
    fs::write(path, before).unwrap();
    said
}

/// The lines of a file, rewritten.
fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let mut lines: Vec<String> = fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    change(&mut lines);
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

#[test]
fn every_change_of_a_file_is_seen() {
    let fleet = Fleet::of_workers(["w1"]);
    for _ in 0..4 {
        run_one(&fleet);
    }
    fleet.daemon("w1").terminate().expect_success();
    expect_sound(&fleet);
    let log = files(&fleet).remove(0);
    let text = fs::read(&log).unwrap();
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 11);
    // One byte, here and there; the last of all, a line end, too.
    for at in (0..text.len()).step_by(text.len() / 40).chain([text.len() - 1]) {
        broken_by(&fleet, &log, |path| {
            let mut changed = text.clone();
            changed[at] ^= 1;
            fs::write(path, changed).unwrap();
        });
    }
    for (said, wanted) in [
        (
            broken_by(&fleet, &log, |path| rewrite(path, |lines| lines.truncate(9))),
            "lines 10 to 11 are missing",
        ),
        (broken_by(&fleet, &log, |path| rewrite(path, |lines| drop(lines.remove(5)))), "line 6 is missing"),
        (broken_by(&fleet, &log, |path| rewrite(path, |lines| drop(lines.remove(0)))), "line 1 is missing"),
        (
            broken_by(&fleet, &log, |path| rewrite(path, |lines| lines.swap(4, 5))),
            "line 5 stands after line 6",
        ),
        (
            broken_by(&fleet, &log, |path| rewrite(path, |lines| lines.insert(3, lines[2].clone()))),
            "stands after",
        ),
        (
            broken_by(&fleet, &log, |path| {
                rewrite(path, |lines| lines[5] = lines[5].replace("true", "evil"))
            }),
            "line 7 does not continue line 6",
        ),
        (
            broken_by(&fleet, &log, |path| {
                let cut = OpenOptions::new().write(true).open(path).unwrap();
                cut.set_len(text.len() as u64 - 5).unwrap();
            }),
            "not the one that",
        ),
        (broken_by(&fleet, &log, |path| fs::write(path, "").unwrap()), "lines 1 to 11 are missing"),
        (broken_by(&fleet, &log, |path| fs::remove_file(path).unwrap()), "lines 1 to 11 are missing"),
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let head = folder(&fleet).with_file_name("audit.head");
    assert!(
        broken_by(&fleet, &head, |path| fs::remove_file(path).unwrap()).contains("audit.head is missing")
    );
    broken_by(&fleet, &head, |path| fs::write(path, "x").unwrap());
    expect_sound(&fleet);
}

#[test]
fn garbage_in_the_folder_is_none_of_its_business() {
    let fleet = Fleet::of_workers(["w1"]);
    run_one(&fleet);
    let folder = folder(&fleet);
    for name in ["garbage", "1.jsonl", "00000000000000000001.jsonl.bak", "0000000000000000000x.jsonl"] {
        fs::write(folder.join(name), "garbage\n").unwrap();
    }
    fs::create_dir(folder.join("00000000000000000007.jsonl")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("00000000000000000003.jsonl")).unwrap();
    run_one(&fleet);
    expect_sound(&fleet);
    fleet.daemon("w1").restart();
    run_one(&fleet);
    expect_sound(&fleet);
    fleet.d(["audit", "verify", "w1"]).expect_success();
}

#[test]
fn the_word_of_a_peer_is_not_enough() {
    let fleet = Fleet::of_workers(["w1"]);
    for _ in 0..4 {
        run_one(&fleet);
    }
    let sound = fleet.d(["audit", "verify", "w1"]).expect_success();
    assert!(sound.out().contains("the audit log of w1 is sound: 10 lines, 1 to 10"), "{sound:?}");
    assert!(sound.err().contains("not compared with what the leader has heard"), "{sound:?}");
    let log = files(&fleet).remove(0);
    rewrite(&log, |lines| lines[5] = lines[5].replace("true", "evil"));
    let broken = fleet.d(["audit", "verify", "w1"]).expect_code(1);
    assert!(broken.out().contains("line 7 does not continue line 6"), "{broken:?}");
    let json = fleet.d(["audit", "verify", "w1", "--json"]).expect_code(1).out();
    let json: serde_json::Value = serde_json::from_str(&json).expect("one object");
    assert_eq!((&json["sound"], &json["lines"]), (&json!(false), &json!(10)), "{json}");
    // A middle that is gone while its daemon runs is told by the daemon as well.
    rewrite(&log, |lines| drop(lines.drain(4..)));
    run_one(&fleet);
    let said = fleet.daemon("w1").stderr();
    assert!(said.contains("the audit log was tampered with"), "{said}");
    assert!(expect_broken(&fleet).contains("the daemon itself found"));
}

#[test]
fn old_files_go_and_one_that_is_taken_is_missed() {
    let small = DaemonOptions::worker("w1").configuration("audit_size = '512KiB'\n");
    let fleet = Fleet::builder().daemon(small).start();
    let first = run_one(&fleet);
    let long = "x".repeat(5_000);
    for _ in 0..120 {
        ask(&fleet, json!({ "argv": ["true", long], "directory": "/" }));
    }
    let size: u64 = files(&fleet).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(size <= 512 << 10, "{size}");
    assert_eq!(files(&fleet).len(), 8);
    expect_sound(&fleet);
    let verdict = fleet.d(["audit", "verify", "w1"]).expect_success();
    assert!(!verdict.out().contains(", 1 to "), "{verdict:?}");
    let shown = crate::audit::bench::lines(&fleet, &[]);
    assert!(shown.iter().all(|line| line["job"] != first.as_str()), "the first job was rotated out");
    // Across files, by time and by number.
    let moment = shown[shown.len() - 40]["at"].as_str().unwrap().to_owned();
    let late = crate::audit::bench::lines(&fleet, &["--since", &moment]);
    assert!((40..60).contains(&late.len()), "{}", late.len());
    assert_eq!(late[late.len() - 40..], shown[shown.len() - 40..]);
    assert_eq!(crate::audit::bench::lines(&fleet, &["-n", "77"]), shown[shown.len() - 77..]);

    fleet.daemon("w1").terminate().expect_success();
    for gone in [0, 4, 7] {
        let path = files(&fleet)[gone].clone();
        let said = broken_by(&fleet, &path, |path| fs::remove_file(path).unwrap());
        assert!(said.contains("missing"), "{said}");
    }
    // Two files with each other's names.
    let (one, other) = (files(&fleet)[2].clone(), files(&fleet)[3].clone());
    let (one_text, other_text) = (fs::read(&one).unwrap(), fs::read(&other).unwrap());
    fs::write(&one, &other_text).unwrap();
    fs::write(&other, &one_text).unwrap();
    expect_broken(&fleet);
    fs::write(&one, one_text).unwrap();
    fs::write(&other, other_text).unwrap();
    expect_sound(&fleet);
}
