//! The ways out of a directory that a rule names: none leads anywhere.

use std::fs;
use std::os::unix::fs::symlink;

use super::bench::{refused, rule, ruled, runs};
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
