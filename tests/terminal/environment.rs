//! What a command finds of the terminal it was started from: its kind, its colors, its owner's locale.

use std::fs;

use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::person::{Person, SIZE};

const SHOW: &str =
    "for name in TERM COLORTERM LANG LANGUAGE LC_TIME LC_ALL; do eval echo $name=\\$$name.; done";

/// The person has a terminal and a locale that no machine has.
fn shown(fleet: &Fleet, more: &[&str]) -> String {
    let arguments = [&["exec", "-t", "w1", "-C", "/tmp", "--sh", SHOW], more].concat();
    let command = fleet.command(arguments).env("TERM", "nobodys-kind").env("COLORTERM", "truecolor");
    let command = command.env("LANG", "xx_XX.UTF-8").env("LANGUAGE", "de:en").env("LC_TIME", "POSIX");
    let (finished, shown) = Person::at(command.env("LC_ALL", "/tmp/x"), SIZE).finishes();
    assert_eq!(finished.code(), Some(0), "{shown}");
    shown.replace('\r', "")
}

#[test]
fn a_terminal_brings_its_kind_and_its_owners_locale() {
    let fleet = Fleet::builder().daemon(DaemonOptions::worker("w1").env("LANG", "POSIX")).start();
    let said = "d: w1 does not know terminals of kind nobodys-kind: TERM is xterm-256color there\n";
    let found = "TERM=xterm-256color.\nCOLORTERM=truecolor.\nLANG=C.UTF-8.\nLANGUAGE=de:en.\nLC_TIME=POSIX.\nLC_ALL=.\n";
    let all = shown(&fleet, &[]);
    assert!(all.starts_with(said) && all.contains(found), "{all:?}");

    // What is asked for by name wins, and its own description is found.
    let all = shown(&fleet, &["--env", "TERM=vt220", "--env", "LANG=C", "--env", "COLORTERM="]);
    assert!(all.contains("TERM=vt220.\nCOLORTERM=.\nLANG=C.\n") && !all.contains("does not know"), "{all:?}");
    let home = fleet.directory("home");
    fs::create_dir_all(home.join(".terminfo/n")).unwrap();
    fs::write(home.join(".terminfo/n/nobodys-kind"), "").unwrap();
    let all = shown(&fleet, &["--env", &format!("HOME={}", home.display())]);
    assert!(all.contains("TERM=nobodys-kind.\n") && !all.contains("does not know"), "{all:?}");

    // Without a terminal the peer's own locale stays.
    let plain = fleet.command(["exec", "w1", "-C", "/tmp", "--sh", SHOW]).env("LANG", "C.UTF-8");
    let plain = plain.env("COLORTERM", "truecolor").run().expect_success().out();
    assert!(plain.contains("COLORTERM=.\nLANG=POSIX.\nLANGUAGE=.\n"), "{plain:?}");
}

/// As under cron: neither the daemon nor the person has a locale.
#[test]
fn a_terminal_without_a_locale_knows_all_characters() {
    let fleet = Fleet::builder().daemon(DaemonOptions::worker("w1").env("LANG", "")).start();
    let command =
        fleet.command(["exec", "-t", "w1", "-C", "/tmp", "--", "locale", "charmap"]).env_remove("LANG");
    let (finished, shown) = Person::at(command, SIZE).finishes();
    assert!(finished.code() == Some(0) && shown.contains("UTF-8\r\n"), "{shown:?}");
}
