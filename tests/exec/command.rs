//! Arguments, shell, directory and environment reach the command exactly as they were given.

use std::collections::BTreeMap;
use std::fs;

use super::bench::{argv, both, fleet, own_failure, reported, sh, sh_with};
use crate::harness::fleet::{DaemonOptions, Fleet};

#[test]
fn the_seeds_example() {
    let fleet = fleet();
    let line = "pwd; echo err >&2; exit 7";
    for flag in ["--shellCmd", "--command"] {
        let finished =
            fleet.d(["execOnPeer", "--peer", "w1", "--directory", "/tmp", flag, line]).expect_code(7);
        assert_eq!((finished.out().as_str(), finished.err().as_str()), ("/tmp\n", "err\n"));
    }
}

#[test]
fn every_argument_arrives_as_it_was_given() {
    let fleet = fleet();
    let long = "x".repeat(100_000);
    let given = [
        "two words",
        "",
        " ",
        "'single' \"double\" `back`",
        "$HOME ${HOME} $(id) ~ * ? [a-z] {1,2} !",
        "a\\b\\n\\0",
        "line\nbreak\r\n\ttab",
        "grüße 日本語 🦀 e\u{301}",
        "-n",
        "--",
        "--sh",
        "-C",
        "--help",
        "-",
        "a=b;c|d&e>f<g#h",
        "\u{1b}[31m\u{7f}",
        long.as_str(),
        "",
    ];
    // It writes what it got, each with a NUL behind it.
    let script = ["sh", "-c", "printf '%s\\0' \"$@\"", "name"];
    let finished = argv(&fleet, &[&script[..], &given].concat()).run().expect_success();
    let wanted: String = given.iter().map(|argument| format!("{argument}\0")).collect();
    assert_eq!(finished.out(), wanted);
    assert_eq!(finished.err(), "");
}

#[test]
fn a_line_is_for_bash_and_may_be_anything() {
    let fleet = fleet();
    for (line, wanted) in [
        ("[[ abc == a* ]] && source /dev/null && echo \"$0\" | grep -o bash", "bash\n"),
        ("echo one\necho 'two\nthree'\n", "one\ntwo\nthree\n"),
        ("echo \"a  b\" 'c\"d' e\\ f", "a  b c\"d e f\n"),
        ("cat <<END\nhere $((1+2))\nEND", "here 3\n"),
        ("echo grüße 🦀", "grüße 🦀\n"),
        ("# nothing", ""),
        ("echo a | tr a b; false || echo c & wait", "b\nc\n"),
    ] {
        let finished = sh(&fleet, line).run().expect_success();
        assert_eq!((finished.out().as_str(), finished.err().as_str()), (wanted, ""), "{line}");
    }
}

#[test]
fn a_line_that_begins_with_a_dash_is_a_line() {
    let fleet = fleet();
    let finished = fleet.d([
        "execOnPeer",
        "--peer",
        "w1",
        "--directory",
        "/",
        "--shellCmd",
        "-n 2>/dev/null || echo no",
    ]);
    assert_eq!(finished.expect_success().out(), "no\n");
}

#[test]
fn a_peer_may_have_another_shell_and_a_default_directory() {
    let fleet = Fleet::builder()
        .daemon(DaemonOptions::worker("w1").configuration("shell = '/bin/sh'\ndirectory = '/usr'\n"))
        .start();
    let finished = fleet.d(["exec", "w1", "--sh", "echo \"$0\"; pwd"]).expect_success();
    assert_eq!(finished.out(), "/bin/sh\n/usr\n");
    assert_eq!(fleet.d(["exec", "w1", "-C", "/", "--", "pwd"]).expect_success().out(), "/\n");
}

#[test]
fn a_directory_is_entered_and_never_pasted() {
    let fleet = fleet();
    let name = "a b'c\"d$(touch x)`;&\n*ü";
    let place = fs::canonicalize(fleet.directory(name)).unwrap();
    let place = place.to_str().unwrap();
    let finished = fleet.d(["exec", "w1", "-C", place, "--", "pwd"]).expect_success();
    assert_eq!(finished.out(), format!("{place}\n"));
    let finished =
        fleet.d(["execOnPeer", "--peer", "w1", "--directory", place, "--shellCmd", "pwd"]).expect_success();
    assert_eq!(finished.out(), format!("{place}\n"));
}

#[test]
fn a_tilde_is_the_home_of_the_jobs_user() {
    let fleet = fleet();
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().expect("we have a name");
    let home = fs::canonicalize(&user.dir).unwrap();
    for directory in ["~", "~/", "~/."] {
        let finished = fleet.d(["exec", "w1", "-C", directory, "--", "pwd", "-P"]).expect_success();
        assert_eq!(finished.out(), format!("{}\n", home.display()), "{directory}");
    }
    // Below it, and what is missing is named in full.
    let finished = fleet.d(["exec", "w1", "-C", "~/no/such/place", "--", "pwd"]);
    let said = own_failure(finished, 249, "not started: w1: entering directory ");
    assert!(said.contains(&format!("{}/no/such/place", user.dir.display())), "{said}");
}

/// The variables of a job, from the process itself: no shell adds its own.
#[track_caller]
fn environment(fleet: &Fleet, flags: &[&str]) -> (BTreeMap<String, String>, serde_json::Value) {
    let arguments = [&["exec", "w1", "-C", "/tmp"], flags, &["--", "cat", "/proc/self/environ"]].concat();
    let (finished, report) = reported(fleet, &arguments);
    let out = finished.expect_success().out();
    let entries: Vec<&str> = out.split_terminator('\0').collect();
    let variables: BTreeMap<String, String> = entries
        .iter()
        .map(|entry| entry.split_once('=').expect("NAME=value"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(variables.len(), entries.len(), "each variable once: {entries:?}");
    (variables, report)
}

fn the_environment_is_clean(containment: &str) {
    const SECRET: &str = "hunter2-of-the-daemon";
    let daemon = DaemonOptions::worker("w1")
        .env("PEERBUS_CONTAINMENT", containment)
        .env("A_SECRET", SECRET)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("LD_PRELOAD", "")
        .env("LC_ALL", "C")
        .env("NOTIFY_SOCKET", "")
        .env("TZ", "Europe/Berlin")
        .env("LANG", "C.UTF-8")
        .configuration("[env]\nFROM_THE_PEER = 'p'\nOVERRIDDEN = 'p'\n");
    let fleet = Fleet::builder().daemon(daemon).start();
    let flags = ["--env", "OVERRIDDEN=c", "--env", "FROM_ME=a=b \n'ü", "--env", "EMPTY="];
    let (variables, report) = environment(&fleet, &flags);
    let names: Vec<&str> = variables.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "EMPTY",
            "FROM_ME",
            "FROM_THE_PEER",
            "HOME",
            "LANG",
            "LOGNAME",
            "OVERRIDDEN",
            "PATH",
            "PEERBUS_JOB",
            "PEERBUS_PEER",
            "SHELL",
            "TZ",
            "USER"
        ]
    );
    assert!(!variables.values().any(|value| value.contains(SECRET)), "{variables:?}");
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().expect("we have a name");
    for (name, wanted) in [
        ("EMPTY", ""),
        ("FROM_ME", "a=b \n'ü"),
        ("FROM_THE_PEER", "p"),
        ("OVERRIDDEN", "c"),
        ("PEERBUS_PEER", "w1"),
        ("PEERBUS_JOB", report["id"].as_str().unwrap()),
        ("HOME", user.dir.to_str().unwrap()),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
        ("SHELL", user.shell.to_str().unwrap()),
        ("TZ", "Europe/Berlin"),
        ("LANG", "C.UTF-8"),
    ] {
        assert_eq!(variables[name], wanted, "{name}");
    }
}

#[test]
fn the_environment_is_clean_in_a_cgroup() {
    the_environment_is_clean("best");
}

#[test]
fn the_environment_is_clean_below_a_reaper() {
    the_environment_is_clean("reaper");
}

#[test]
fn a_variable_without_a_value_is_passed_on() {
    let fleet = fleet();
    let line = "echo \"$HERE\" \"${NOT_HERE-none}\"";
    let finished = sh_with(&fleet, &["--env", "HERE", "--env", "NOT_HERE"], line)
        .env("HERE", "a = b")
        .env_remove("NOT_HERE")
        .run()
        .expect_success();
    assert_eq!(finished.out(), "a = b none\n");
    assert!(finished.err().starts_with("d: --env NOT_HERE: there is no variable"), "{finished:?}");
}

#[test]
fn the_jobs_own_variables_cannot_be_given_away() {
    let fleet = fleet();
    let flags = ["--env", "PEERBUS_JOB=mine", "--env", "PEERBUS_PEER=other", "--env", "PATH=/bin:/usr/bin"];
    let (variables, report) = environment(&fleet, &flags);
    assert_eq!(variables["PEERBUS_JOB"], report["id"].as_str().unwrap());
    assert_eq!(variables["PEERBUS_PEER"], "w1");
    assert_eq!(variables["PATH"], "/bin:/usr/bin");
}

both!(a_command_starts_with_a_clean_slate);

/// A session of its own, no signal blocked or ignored, no descriptors but three.
fn a_command_starts_with_a_clean_slate(fleet: &Fleet) {
    let line = "echo $(ls /proc/self/fd | wc -l); grep -E '^Sig(Blk|Ign)' /proc/self/status; \
                cut -d' ' -f5,6 /proc/$$/stat; echo $$";
    // `ls` opens the directory it reads, so it sees one more than it has.
    let finished = sh_with(fleet, &[], line).run().expect_success();
    let said = finished.out();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "4", "{said}");
    for line in &lines[1..3] {
        assert!(line.ends_with("\t0000000000000000"), "{said}");
    }
    assert_eq!(lines[3], format!("{0} {0}", lines[4]), "the leader of its group and session: {said}");
}
