//! Words, lines, tasks, variables, users; and where in the order of the checks the policy stands.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::bench::{PATIENCE, refused, reload, rule, ruled, ruled_with, runs, write_policy};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;

#[test]
fn without_a_file_everybody_on_a_trusted_network_may_do_everything() {
    let fleet = Fleet::of_workers(["w1"]);
    assert_eq!(runs(&fleet, &["-C", "/", "--env", "A=b", "--sh", "echo $A"]), "b\n");
}

#[test]
fn with_an_empty_file_nobody_may_do_anything() {
    let fleet = ruled("# nothing yet\n");
    let said = refused(&fleet, &["-C", "/", "--", "true"]);
    assert!(said.contains("the policy of w1 has no rule for anyone"), "{said}");
    refused(&fleet, &["-C", "/", "--sh", "true"]);
}

#[test]
fn rules_for_identities_open_nothing_to_a_network_without_them() {
    let fleet =
        ruled("[[allow]]\nwho = [\"alice\", \"@operator\", \"@guest\"]\nargv = \"any\"\nsh = \"any\"\n");
    refused(&fleet, &["-C", "/", "--", "true"]);
}

#[test]
fn words_are_matched_as_they_were_given() {
    let fleet = ruled(&rule("argv = [[\"echo\", \"a b\", \"*\"], [\"printf\", \"...\"]]"));
    assert_eq!(runs(&fleet, &["-C", "/", "--", "echo", "a b", "c"]), "a b c\n");
    assert_eq!(runs(&fleet, &["-C", "/", "--", "printf", "%s.", "-x", ""]), "-x..");
    for argv in [
        &["echo", "a", "b", "c"][..],
        &["echo", "a b"],
        &["echo", "a b", ""],
        &["echo", "a b", "-n"],
        &["echo", "a b", "c", "d"],
        &["echo", "a\u{a0}b", "c"],
        &["ECHO", "a b", "c"],
        &["/bin/echo", "a b", "c"],
        &["./echo", "a b", "c"],
        &["sh", "-c", "echo 'a b' c"],
        &["env", "printf", "x"],
    ] {
        let said = refused(&fleet, &[&["-C", "/", "--"], argv].concat());
        assert!(said.contains("rule 1, `argv`"), "{said}");
    }
    let long = "x".repeat(100_000);
    assert_eq!(runs(&fleet, &["-C", "/", "--", "echo", "a b", &long]).len(), 100_005);
    refused(&fleet, &["-C", "/", "--", "echo", &long, "c"]);
    let said = refused(&fleet, &["-C", "/", "--sh", "echo 'a b' c"]);
    assert!(said.contains("rule 1, `sh`"), "{said}");
}

#[test]
fn a_program_of_the_same_name_elsewhere_is_not_the_program() {
    let fleet = ruled(&rule("argv = [\"uname\"]\nenv = [\"LANG\"]"));
    let evil = fleet.directory("evil");
    fs::write(evil.join("uname"), "#!/bin/sh\necho evil\n").unwrap();
    fs::set_permissions(evil.join("uname"), fs::Permissions::from_mode(0o755)).unwrap();
    let place = evil.to_str().unwrap();
    assert_eq!(runs(&fleet, &["-C", place, "--env", "LANG=C", "--", "uname"]), "Linux\n");
    refused(&fleet, &["-C", place, "--", &format!("{place}/uname")]);
    refused(&fleet, &["-C", place, "--", "./uname"]);
    for variable in [
        &format!("PATH={place}"),
        "PATH=",
        "LD_PRELOAD=x.so",
        "LD_LIBRARY_PATH=.",
        "LANGUAGE=x",
        "BASH_ENV=x",
    ] {
        let said = refused(&fleet, &["-C", place, "--env", variable, "--", "uname"]);
        assert!(said.contains("rule 1, `env`: the variable \""), "{said}");
        assert!(!said.contains(place), "values of variables are not told: {said}");
    }
}

#[test]
fn standard_input_is_something_to_be_allowed() {
    let fleet = ruled(&format!("{}{}", rule("argv = [\"cat\"]"), rule("argv = [\"tac\"]\nstdin = true")));
    assert_eq!(runs(&fleet, &["-C", "/", "--", "cat"]), "");
    let said = refused(&fleet, &["-C", "/", "-i", "--", "cat"]);
    assert!(said.contains("none of the 2 rules"), "{said}");
    assert_eq!(runs(&fleet, &["-C", "/", "-i", "--", "tac"]), "");
}

#[test]
fn a_shell_line_needs_a_rule_for_that_very_line() {
    let fleet = ruled(&rule("sh = [\"echo one; echo two\"]"));
    assert_eq!(runs(&fleet, &["-C", "/", "--sh", "echo one; echo two"]), "one\ntwo\n");
    for line in [
        "echo one",
        "echo one; echo two; id",
        "echo one; echo two ",
        " echo one; echo two",
        "echo one;\necho two",
    ] {
        refused(&fleet, &["-C", "/", "--sh", line]);
    }
    refused(&fleet, &["-C", "/", "--", "sh", "-c", "echo one; echo two"]);
}

#[test]
fn a_task_is_what_this_peer_has_under_its_name() {
    let tasks = |directory: &str, env: &str| {
        format!(
            "[tasks.greet]\ndirectory = \"{directory}\"\nsteps = [\"echo hello $N\", \"echo bye\"]\nenv = {{ N = \"{env}\" }}\n"
        )
    };
    let worker = DaemonOptions::worker("w1").configuration(&tasks("/", "you"));
    let fleet = ruled_with("[[allow]]\nwho = [\"@network\"]\ntask = [\"greet\", \"pull\"]\n", worker);
    let task = |name: &str, directory: &str, env: &str| {
        let configuration = fleet.file(&format!("{name}.toml"), tasks(directory, env));
        fleet.d(["task", "run", "--config", configuration.to_str().unwrap(), "greet", "w1"])
    };
    assert_eq!(task("same", "/", "you").expect_success().out(), "hello you\nbye\n");
    assert_eq!(task("env", "/", "$(id)").expect_code(250).out(), "");
    assert_eq!(task("place", "/tmp", "you").expect_code(250).out(), "");
    let said = refused(&fleet, &["-C", "/", "--env", "N=you", "--sh", "echo hello $N; id"]);
    assert!(said.contains("rule 1, `task`: it is no step of greet, pull, as this peer has it"), "{said}");
}

#[test]
fn another_user_is_something_to_be_allowed() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "root is missing: only root's daemon has other users; run the tests as root"
    );
    let fleet = ruled(&format!(
        "{}{}{}",
        rule("argv = [\"id\", \"-un\"]"),
        rule("argv = [\"id\", \"-u\"]\nuser = [\"nobody\"]"),
        rule("argv = [\"id\", \"-ru\"]\nuser = \"any\"")
    ));
    assert_eq!(runs(&fleet, &["-C", "/", "--", "id", "-un"]), "root\n");
    assert_eq!(runs(&fleet, &["-C", "/", "--user", "root", "--", "id", "-un"]), "root\n");
    refused(&fleet, &["-C", "/", "--user", "nobody", "--", "id", "-un"]);
    refused(&fleet, &["-C", "/", "--", "id", "-u"]);
    refused(&fleet, &["-C", "/", "--user", "0", "--", "id", "-u"]);
    assert_eq!(runs(&fleet, &["-C", "/", "--user", "nobody", "--", "id", "-u"]), "65534\n");
    assert_eq!(runs(&fleet, &["-C", "/", "--user", "nobody", "--", "id", "-ru"]), "65534\n");
}

#[test]
fn the_default_directory_is_a_directory_like_any_other() {
    let fleet = Fleet::builder().start();
    let app = fleet.directory("app");
    write_policy(&fleet, &rule("argv = [\"pwd\"]\ndirectory = [\"PLACE/app\"]"));
    fleet.add(DaemonOptions::worker("w1").directory(&app));
    let real = app.canonicalize().unwrap();
    assert_eq!(runs(&fleet, &["--", "pwd"]), format!("{}\n", real.display()));
    refused(&fleet, &["-C", "/", "--", "pwd"]);

    let fleet = ruled(&rule("argv = \"any\""));
    // Nobody said where: that is a mistake of the one who typed it, not of the policy.
    let asked = fleet.d(["exec", "w1", "--", "pwd"]).expect_code(2);
    assert!(asked.err().contains("no directory is named"), "{asked:?}");
}

/// The protocol's order: an id that is known is answered by what became of it, whatever the policy says by
/// now; and the policy comes before the limit of jobs.
#[test]
fn the_policy_has_its_place_among_the_checks() {
    let worker = DaemonOptions::worker("w1").configuration("max_jobs = 1\n");
    let fleet = ruled_with(&rule("argv = [\"cat\"]\nstdin = true"), worker);
    let mut raw = Raw::connect(&fleet.server().url());
    let ask = |raw: &mut Raw, id: &str| {
        let request = json!({ "id": id, "directory": "/", "argv": ["cat"] }).to_string();
        raw.request("exec.w1", request, PATIENCE).json()
    };
    let (known, new) =
        (peerbus::protocol::JobId::new().to_string(), peerbus::protocol::JobId::new().to_string());
    assert_eq!(ask(&mut raw, &known)["ending"], json!({ "exited": { "code": 0 } }));

    // One that takes the only place, until its input ends.
    let mut live = fleet.command(["exec", "w1", "-C", "/", "-i", "--", "cat"]).open_input().spawn();
    live.write(b"begun\n").unwrap();
    live.stdout_line(PATIENCE, |line| line == "begun");
    assert_eq!(ask(&mut raw, &new)["ending"]["refused"]["why"], "limit");
    write_policy(&fleet, "");
    reload(&fleet).expect_success();
    let refused = ask(&mut raw, &peerbus::protocol::JobId::new().to_string());
    assert_eq!(refused["ending"]["refused"]["why"], "policy", "{refused}");
    assert_eq!(ask(&mut raw, &known)["ending"], json!({ "exited": { "code": 0 } }));
    // What runs goes on: the policy says what may begin.
    live.write(b"still there\n").unwrap();
    live.stdout_line(PATIENCE, |line| line == "still there");
    live.close_stdin();
    live.wait(PATIENCE).expect_success();
}
