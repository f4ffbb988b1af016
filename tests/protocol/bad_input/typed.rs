//! The command line itself.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::bad_input::Person;
use crate::harness::fleet::Fleet;

#[test]
fn a_relative_directory() {
    let person = Person::new();
    for directory in ["app", "./app", "../app", "", " /app", "~bob", "~bob/x", "C:\\app"] {
        let said = person.mistypes(&["exec", "w1", "-C", directory, "--", "true"], &["directory"]);
        assert!(said.starts_with("d: ") && said.contains(&format!("{directory:?} is relative")), "{said}");
    }
    let old = ["execOnPeer", "--peer", "w1", "--directory", "app", "--shellCmd", "true"];
    person.mistypes(&old, &["d: the directory \"app\" is relative", "'/'", "'~/'"]);
    person.mistypes(
        &["daemon", "run", "--id", "w1", "--directory", "app"],
        &["--directory", "\"app\" is relative"],
    );
}

#[test]
fn neither_or_both_of_line_and_command() {
    let person = Person::new();
    person.mistypes(&["exec", "w1", "-C", "/"], &["--sh <LINE>", "COMMAND"]);
    person.mistypes(&["exec", "w1", "-C", "/", "--"], &["--sh <LINE>", "COMMAND"]);
    person.mistypes(
        &["exec", "w1", "-C", "/", "--sh", "pwd", "--", "pwd"],
        &["--sh <LINE>", "cannot be used with"],
    );
    person.mistypes(
        &["exec", "w1", "-C", "/", "--sh", "pwd", "--sh", "pwd"],
        &["--sh <LINE>", "multiple times"],
    );
    for empty in ["", "  ", "\n"] {
        person.mistypes(&["exec", "w1", "-C", "/", "--sh", empty], &["d: ", "shell_cmd", "empty"]);
    }
    person.mistypes(&["exec", "w1", "-C", "/", "--", ""], &["d: ", "argv", "no program"]);
    person.mistypes(&["exec", "w1", "-C", "/", "--", "", "x"], &["d: ", "argv", "no program"]);
}

#[test]
fn a_command_without_the_dashes() {
    let person = Person::new();
    let said = person
        .mistypes(&["exec", "w1", "-C", "/", "pwd"], &["unexpected argument pwd", "d exec w1 -C / -- pwd"]);
    assert!(said.starts_with("d: unexpected"), "{said}");
    person.mistypes(&["exec", "w1", "ls", "-l"], &["unexpected argument ls", "d exec w1 -- ls -l"]);
}

#[test]
fn a_variable_without_a_name() {
    let person = Person::new();
    for wrong in ["=v", "", "="] {
        let arguments = ["exec", "w1", "-C", "/", "--env", wrong, "--", "true"];
        person.mistypes(&arguments, &["--env <K=V>", &format!("{wrong:?} is neither NAME=VALUE nor NAME")]);
    }
}

#[test]
fn a_time_that_is_none() {
    let person = Person::new();
    for wrong in ["5", "soon", "", "1 parsec", "5x", "--", "9999999999999999999999s"] {
        let timeout = format!("--timeout={wrong}");
        let arguments = ["exec", "w1", "-C", "/", &timeout, "--sh", "true"];
        person.mistypes(&arguments, &["--timeout <TIME>", "is not a time such as 90s, 15m, 1h30m, 3d or 1w"]);
    }
    for wrong in ["-3s", "-1h"] {
        let timeout = format!("--timeout={wrong}");
        person.mistypes(&["exec", "w1", "-C", "/", &timeout, "--sh", "true"], &["is not a time"]);
    }
    person.mistypes(
        &["exec", "w1", "-C", "/", "--timeout", "0s", "--", "true"],
        &["d: ", "timeout", "no time"],
    );
    for flag in ["--wait", "--connect-timeout"] {
        person.mistypes(&["exec", "w1", "-C", "/", flag, "soon", "--", "true"], &[flag, "\"soon\""]);
    }
    person.mistypes(&["ping", "w1", "--timeout", "soon"], &["--timeout", "\"soon\""]);
    person.mistypes(&["ping", "w1", "--count", "0"], &["--count", "0"]);
}

#[test]
fn what_the_old_commands_miss_in_the_words_scripts_know() {
    let person = Person::new();
    let all = [("--peer", "w1"), ("--directory", "/tmp"), ("--shellCmd", "pwd")];
    for (missing, _) in all {
        let wanted = format!("Missing required argument '{missing}' for command 'execOnPeer'.\n");
        let given =
            all.into_iter().filter(|(flag, _)| *flag != missing).flat_map(|(flag, value)| [flag, value]);
        let arguments: Vec<&str> = ["execOnPeer"].into_iter().chain(given).collect();
        assert_eq!(person.mistypes(&arguments, &[]), wanted);
        // Empty is as good as missing.
        let emptied = all.map(|(flag, value)| [flag, if flag == missing { "" } else { value }]);
        let arguments: Vec<&str> = ["execOnPeer"].into_iter().chain(emptied.into_iter().flatten()).collect();
        assert_eq!(person.mistypes(&arguments, &[]), wanted);
    }
    assert_eq!(
        person.mistypes(&["execOnPeer"], &[]),
        "Missing required argument '--peer' for command 'execOnPeer'.\n"
    );
    assert_eq!(
        person.mistypes(&["execOnPeer", "--peer", "w1"], &[]),
        "Missing required argument '--directory' for command 'execOnPeer'.\n"
    );
    assert_eq!(
        person.mistypes(&["getPeerInfo"], &[]),
        "Missing required argument '--peer' for command 'getPeerInfo'.\n"
    );
    person.mistypes(&["execOnPeer", "--peer"], &["--peer"]);
    person.mistypes(&["execOnPeer", "--peer", "w1", "--directory"], &["--directory"]);
}

#[test]
fn flags_and_verbs_that_do_not_exist() {
    let person = Person::new();
    person.mistypes(&["exec", "w1", "-C", "/", "--shel", "pwd"], &["'--shel'", "Usage: "]);
    person.mistypes(&["exec", "w1", "-C", "/", "-z", "--", "pwd"], &["'-z'"]);
    person.mistypes(&["execOnPeer", "--peers", "w1"], &["'--peers'"]);
    person.mistypes(&["exex", "w1"], &["'exex'", "exec"]);
    person.mistypes(&["execonpeer", "--peer", "w1"], &["'execonpeer'", "execOnPeer"]);
    person.mistypes(&["exec"], &["<PEER>"]);
    person.mistypes::<&str>(&[], &["Usage: "]);
    person.mistypes(&["peer"], &["Usage: "]);
    person.mistypes(&["daemon"], &["Usage: "]);
}

#[test]
fn arguments_that_are_no_text() {
    let person = Person::new();
    let broken = OsStr::from_bytes(b"a\xff");
    for at in [1, 3, 5] {
        let mut arguments: Vec<&OsStr> = ["exec", "w1", "-C", "/", "--sh", "true"].map(OsStr::new).to_vec();
        arguments[at] = broken;
        person.mistypes(&arguments, &["UTF-8"]);
    }
    let arguments = ["exec", "w1", "-C", "/", "--", "echo"].map(OsStr::new);
    person.mistypes(&[&arguments[..], &[broken]].concat(), &["UTF-8"]);
}

#[test]
fn what_is_unusual_and_right() {
    let fleet = Fleet::of_workers(["w1"]);
    for arguments in [
        ["exec", "w1", "-C", "/", "--timeout", "80000h", "--", "true"].as_slice(),
        &["exec", "w1", "-C", "/", "--timeout", "1h30m", "--wait", "1ms", "--", "true"],
        &["exec", "w1", "-C", "//", "--env", "A=", "--env", "A=1", "--", "true"],
        &["exec", "w1", "-C", "/tmp/../tmp/.", "--", "true", "--help", "-C"],
        &["-v", "exec", "w1", "-C/", "--", "true"],
    ] {
        let finished = fleet.d(arguments).expect_success();
        assert!(finished.stdout.is_empty(), "{finished:?}");
    }
}
