//! The ways out of a directory that a rule names: none leads anywhere.

use std::fs;
use std::os::unix::fs::symlink;

use super::bench::{PATIENCE, refused, rule, ruled, runs};
use crate::harness::fleet::Fleet;

/// A worker that lets everybody run `pwd` and `touch here` below `PLACE/app`, which has some ways out.
fn with_ways_out() -> Fleet {
    let fleet = ruled(&rule("argv = [[\"pwd\"], [\"touch\", \"here\"]]\ndirectory = [\"PLACE/app/\"]"));
    let app = fleet.directory("app/src").parent().unwrap().to_owned();
    fleet.directory("application");
    fleet.directory("secret");
    symlink("/", app.join("root")).unwrap();
    symlink("..", app.join("up")).unwrap();
    symlink("../secret", app.join("out")).unwrap();
    symlink("out", app.join("further")).unwrap();
    symlink("src", app.join("inside")).unwrap();
    symlink("loop", app.join("loop")).unwrap();
    symlink(fleet.path().join("app"), fleet.path().join("way-in")).unwrap();
    fleet
}

#[test]
fn only_what_leads_into_the_directory_is_in_it() {
    let fleet = with_ways_out();
    let place = fleet.path().canonicalize().unwrap().display().to_string();
    for (directory, real) in [
        ("app", "app"),
        ("app/", "app"),
        ("app//", "app"),
        ("app/.", "app"),
        ("app/src", "app/src"),
        ("app/src/..", "app"),
        ("app/src/../../app", "app"),
        ("app/inside", "app/src"),
        ("secret/../app/src", "app/src"),
        ("way-in", "app"),
        ("way-in/src/", "app/src"),
        ("app/out/../app", "app"),
    ] {
        assert_eq!(
            runs(&fleet, &["-C", &format!("{place}/{directory}"), "--", "pwd"]),
            format!("{place}/{real}\n")
        );
    }
}

#[test]
fn nothing_that_leads_out_of_the_directory_is_in_it() {
    let fleet = with_ways_out();
    let place = fleet.path().display().to_string();
    for directory in [
        "app/..",
        "app/../",
        "app/../secret",
        "app/src/../..",
        "app/src/../../secret",
        "app/./../secret",
        "app//..//secret",
        "app/root",
        "app/root/etc",
        "app/up",
        "app/up/secret",
        "app/out",
        "app/out/",
        "app/out/.",
        "app/further",
        "app/inside/../../secret",
        "app/root/proc/self/root",
        "app/loop",
        "app/none/../../secret",
        "way-in/..",
        "application",
        "app ",
        "App",
        "secret",
        "",
    ] {
        let said = refused(&fleet, &["-C", &format!("{place}/{directory}"), "--", "touch", "here"]);
        assert!(said.contains("rule 1, `directory`"), "{directory}: {said}");
    }
    for directory in ["/", "~", "~/", "~/../tmp", "/proc/self/cwd", "/proc/self/root", "//", "/tmp/"] {
        refused(&fleet, &["-C", directory, "--", "touch", "here"]);
    }
    let long = format!("{place}/app/{}", "x/".repeat(3_000));
    refused(&fleet, &["-C", &long, "--", "touch", "here"]);
    assert!(!fleet.path().join("secret/here").exists() && !fleet.path().join("here").exists());
}

/// An accent that is a letter of its own makes another name.
#[test]
fn names_that_look_alike_are_two_names() {
    let fleet = ruled(&rule("argv = [\"pwd\"]\ndirectory = [\"PLACE/caf\u{e9}\"]"));
    fleet.directory("caf\u{e9}");
    fleet.directory("cafe\u{301}");
    let place = |name: &str| fleet.path().join(name).display().to_string();
    runs(&fleet, &["-C", &place("caf\u{e9}"), "--", "pwd"]);
    refused(&fleet, &["-C", &place("cafe\u{301}"), "--", "pwd"]);
}

/// What is allowed and not there is told as it always is.
#[test]
fn a_directory_that_is_missing_is_no_matter_of_the_policy() {
    let fleet = with_ways_out();
    let missing = fleet.path().join("app/missing/below");
    let finished = fleet.d(["exec", "w1", "-C", missing.to_str().unwrap(), "--", "pwd"]).expect_code(249);
    assert!(finished.err().contains("No such file or directory"), "{finished:?}");
    fs::write(fleet.path().join("app/file"), "").unwrap();
    let file = fleet.path().join("app/file");
    let finished = fleet.d(["exec", "w1", "-C", file.to_str().unwrap(), "--", "pwd"]).expect_code(249);
    assert!(finished.err().contains("Not a directory"), "{finished:?}");
}

/// A link in the rule itself would be whoever may change it: the rule is about the name alone.
#[test]
fn a_rule_that_names_a_link_allows_nothing_and_is_said() {
    let fleet = Fleet::builder().start();
    fleet.directory("real");
    symlink("real", fleet.path().join("link")).unwrap();
    super::bench::write_policy(&fleet, &rule("argv = [\"pwd\"]\ndirectory = [\"PLACE/link\"]"));
    let daemon = fleet.add(crate::harness::fleet::DaemonOptions::worker("w1"));
    assert!(
        daemon
            .stderr()
            .lines()
            .any(|line| line.contains("no command is ever in a link") && line.contains("rule=1"))
    );
    let place = |name: &str| fleet.path().join(name).display().to_string();
    refused(&fleet, &["-C", &place("link"), "--", "pwd"]);
    refused(&fleet, &["-C", &place("real"), "--", "pwd"]);
}

/// What leads into the directory when it is looked at, and out of it when it is entered: whatever wins the
/// race, no command is ever outside.
#[test]
fn a_way_that_is_changed_meanwhile_leads_nowhere_else() {
    let fleet = ruled(&rule("argv = [\"pwd\"]\ndirectory = [\"PLACE/app\"]"));
    let place = fleet.path().canonicalize().unwrap();
    fleet.directory("app/in");
    fleet.directory("secret/in");
    symlink("app", place.join("way")).unwrap();
    let (stop, way) = (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), place.clone());
    let swapping = std::thread::spawn({
        let stop = std::sync::Arc::clone(&stop);
        move || {
            for to in ["secret", "app"].into_iter().cycle() {
                symlink(to, way.join("next")).unwrap();
                fs::rename(way.join("next"), way.join("way")).unwrap();
                // The directory itself, too, is now there and now a link to the other.
                fs::rename(way.join("app/in"), way.join("app/moved")).unwrap();
                symlink("../secret/in", way.join("app/in")).unwrap();
                fs::remove_file(way.join("app/in")).unwrap();
                fs::rename(way.join("app/moved"), way.join("app/in")).unwrap();
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
            }
        }
    });
    let (mut ran, mut not) = (0, 0);
    let asked = place.join("way/in").display().to_string();
    let begun = std::time::Instant::now();
    // Until both have won, and often enough for the time there is.
    while (ran + not < 60 && begun.elapsed() < PATIENCE / 2) || ran == 0 || not == 0 {
        assert!(begun.elapsed() < PATIENCE, "one side never wins: ran {ran}, did not {not}");
        let finished = fleet.d(["exec", "w1", "-C", &asked, "--", "pwd"]);
        match finished.code() {
            Some(0) => {
                ran += 1;
                let real = finished.out();
                // It may be moved once it is there; it is the same directory then.
                let inside = ["app/in", "app/moved"].map(|name| format!("{}\n", place.join(name).display()));
                assert!(inside.contains(&real), "{real}");
            }
            Some(249 | 250) => not += 1,
            _ => panic!("{finished:?}"),
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapping.join().unwrap();
}
