//! Mistakes in the file, its rights, and reading it again.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use super::bench::{PATIENCE, policy_file, refused, reload, rule, ruled, runs, write_policy};
use crate::harness::fleet::{DaemonOptions, Fleet};

/// The daemon does not start, and says why.
#[track_caller]
fn does_not_start(fleet: &Fleet, worker: DaemonOptions, words: &[&str]) {
    let finished = fleet.add_starting(worker).wait_for_end(PATIENCE).expect_code(2);
    let said = finished.err();
    assert!(said.lines().any(|line| line.starts_with("d: policy ")), "{finished:?}");
    assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {finished:?}");
}

#[test]
fn a_mistake_keeps_the_daemon_from_starting() {
    let fleet = Fleet::builder().start();
    write_policy(&fleet, &rule("argv = [\"git\"]\nuser = [\"@root\"]"));
    let path = policy_file(&fleet).display().to_string();
    does_not_start(&fleet, DaemonOptions::worker("w1"), &[&path, "line 4", "`allow[1].user`", "@root"]);
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let fleet = Fleet::builder().start();
    let worker = DaemonOptions::worker("w1").configuration("policy = \"rules/mine.toml\"\n");
    let path = fleet.path().join("daemon-0/rules/mine.toml");
    does_not_start(&fleet, worker.clone(), &[path.to_str().unwrap(), "there is no such file"]);
    let fleet = Fleet::builder().start();
    fleet.directory("daemon-0/rules");
    fleet.file("daemon-0/rules/mine.toml", rule("argv = [\"pwd\"]"));
    fleet.add(worker);
    runs(&fleet, &["-C", "/", "--", "pwd"]);
    refused(&fleet, &["-C", "/", "--", "true"]);
}

/// Whoever can make the file disappear does not get to do everything.
#[test]
fn where_there_was_one_and_it_is_gone_nothing_is_allowed() {
    let fleet = ruled(&rule("argv = [\"true\"]"));
    let daemon = fleet.daemon("w1");
    runs(&fleet, &["-C", "/", "--", "true"]);
    fs::remove_file(policy_file(&fleet)).unwrap();
    for _ in 0..2 {
        daemon.restart();
        let said = refused(&fleet, &["-C", "/", "--", "true"]);
        assert!(said.contains("the policy file of w1 is gone"), "{said}");
    }
    assert!(daemon.stderr().contains("`policy = \"none\"`"), "{}", daemon.stderr());
    write_policy(&fleet, &rule("argv = [\"true\"]"));
    reload(&fleet);
    runs(&fleet, &["-C", "/", "--", "true"]);
    // Somebody says that there is to be none.
    fs::remove_file(policy_file(&fleet)).unwrap();
    fleet.file("daemon-0/none.toml", "policy = \"none\"\n");
    let config = fleet.path().join("daemon-0/none.toml");
    daemon.terminate();
    let state = daemon.state_directory().to_str().unwrap().to_owned();
    let words = ["--config", config.to_str().unwrap(), "daemon", "run", "--id", "w1", "--role", "worker"];
    let mut live = fleet.command(words).with(|d| _ = d.args(["--state-dir", &state])).spawn();
    live.stderr_line(PATIENCE, |line| line.starts_with("ready "));
    runs(&fleet, &["-C", "/", "--", "id"]);
    live.signal(Signal::SIGTERM);
    live.wait(PATIENCE).expect_success();
    // And then that is what is remembered.
    daemon.restart();
    runs(&fleet, &["-C", "/", "--", "id"]);
}

/// What root's daemon runs by: whoever can change it is root as well.
#[test]
fn roots_daemon_uses_nothing_that_others_can_change() {
    assert!(nix::unistd::geteuid().is_root(), "root is missing: only its daemon is held to this");
    let mode =
        |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let give = |path: &std::path::Path, to| std::os::unix::fs::chown(path, Some(to), None).unwrap();
    let fleet = Fleet::builder().start();
    let (state, folder) = (fleet.directory("state-w1"), fleet.directory("folder"));
    let config = fleet.file("folder/config.toml", "");
    let does_not_start = |code: i32, words: &[&str]| {
        let command = fleet.command(["daemon", "run", "--id", "w1", "--role", "worker"]);
        let (config, state) = (config.to_str().unwrap(), state.to_str().unwrap());
        let said = command
            .with(|d| _ = d.args(["--config", config, "--state-dir", state]))
            .run()
            .expect_code(code)
            .err();
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    };
    let path = state.to_str().unwrap();
    mode(&state, 0o777);
    does_not_start(1, &["state directory", path, "user 0, mode 0777", "chmod go-w"]);
    mode(&state, 0o700);
    give(&state, 65_534);
    does_not_start(1, &["state directory", path, "user 65534, mode 0700", "chown root"]);
    give(&state, 0);
    let path = config.to_str().unwrap();
    mode(&config, 0o664);
    does_not_start(2, &["configuration", path, "mode 0664", "chmod go-w"]);
    mode(&config, 0o644);
    mode(&folder, 0o777);
    does_not_start(2, &["configuration", path, folder.to_str().unwrap(), "mode 0777"]);
    mode(&folder, 0o755);
    give(&folder, 65_534);
    does_not_start(2, &["configuration", path, "user 65534"]);
}

#[test]
fn a_file_that_others_may_change_is_refused() {
    let mode =
        |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let policy = rule("argv = \"any\"");
    for (bits, said) in
        [(0o620, "others than its owner may write it"), (0o602, "others than its owner may write it")]
    {
        let fleet = Fleet::builder().start();
        write_policy(&fleet, &policy);
        mode(&policy_file(&fleet), bits);
        does_not_start(&fleet, DaemonOptions::worker("w1"), &[said, "chmod go-w"]);
    }
    // Beside it, a file by which it may be replaced: a name in a directory that others may write.
    let fleet = Fleet::builder().start();
    write_policy(&fleet, "");
    let open = fleet.directory("open");
    fs::rename(policy_file(&fleet), open.join("policy.toml")).unwrap();
    mode(&open, 0o777);
    let named = format!("policy = \"{}/policy.toml\"\n", open.display());
    does_not_start(
        &fleet,
        DaemonOptions::worker("w1").configuration(&named),
        &["put another file in its place"],
    );
    // There nobody takes away what is somebody else's.
    mode(&open, 0o1777);
    fleet.add(DaemonOptions::worker("w2").configuration(&named));

    assert!(
        nix::unistd::geteuid().is_root(),
        "root is missing: only root can give a file away; run the tests as root"
    );
    let fleet = Fleet::builder().start();
    write_policy(&fleet, &policy);
    std::os::unix::fs::chown(policy_file(&fleet), Some(65_534), None).unwrap();
    does_not_start(&fleet, DaemonOptions::worker("w1"), &["belongs to user 65534"]);
}

#[test]
fn what_is_no_file_or_no_text_is_a_mistake() {
    let fleet = Fleet::builder().start();
    fleet.directory("daemon-0/policy.toml");
    does_not_start(&fleet, DaemonOptions::worker("w1"), &["it is no file"]);
    let fleet = Fleet::builder().start();
    write_policy(&fleet, "");
    fs::write(policy_file(&fleet), b"# a\n# b\n# \xff\n").unwrap();
    does_not_start(&fleet, DaemonOptions::worker("w1"), &["line 3", "not UTF-8"]);
    let fleet = Fleet::builder().start();
    write_policy(&fleet, &"#".repeat(2 << 20));
    does_not_start(&fleet, DaemonOptions::worker("w1"), &["longer than"]);
    let fleet = Fleet::builder().start();
    fleet.directory("daemon-0");
    nix::unistd::mkfifo(&policy_file(&fleet), nix::sys::stat::Mode::S_IRWXU).unwrap();
    does_not_start(&fleet, DaemonOptions::worker("w1"), &["it is no file"]);
}

#[test]
fn it_is_read_again_when_the_daemon_is_asked_to() {
    let fleet = ruled(&rule("argv = [\"pwd\"]"));
    let path = policy_file(&fleet).display().to_string();
    refused(&fleet, &["-C", "/", "--", "true"]);
    write_policy(&fleet, &format!("{}{}", rule("argv = [\"pwd\"]"), rule("argv = [\"true\"]")));
    refused(&fleet, &["-C", "/", "--", "true"]);
    let said = reload(&fleet).expect_success().out();
    assert!(
        said.starts_with("reloaded peer=w1 pid=") && said.ends_with(&format!(" policy={path} rules=2\n")),
        "{said}"
    );
    runs(&fleet, &["-C", "/", "--", "true"]);

    // A mistake: said by both, and the rules stay.
    write_policy(&fleet, &rule("\nargv = [\"*\"]"));
    let finished = reload(&fleet).expect_code(1);
    assert_eq!(finished.out(), "");
    let said = finished.err();
    assert!(said.starts_with(&format!("d: policy {path}: line 4: `allow[1].argv`: ")), "{said}");
    assert!(said.contains("the rules stay as they were"), "{said}");
    let logged =
        |line: &str| line.contains("ERROR") && line.contains("line 4") && line.contains("`allow[1].argv`");
    fleet.daemon("w1").wait_for_line(PATIENCE, logged);
    runs(&fleet, &["-C", "/", "--", "true"]);

    // Rights, as at the start.
    write_policy(&fleet, "");
    fs::set_permissions(policy_file(&fleet), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(reload(&fleet).expect_code(1).err().contains("others than its owner may write it"));
    runs(&fleet, &["-C", "/", "--", "true"]);

    // One that is gone opens nothing.
    fs::remove_file(policy_file(&fleet)).unwrap();
    assert!(reload(&fleet).expect_code(1).err().contains("there is no such file"));
    refused(&fleet, &["-C", "/", "--", "false"]);
    write_policy(&fleet, "");
    assert!(reload(&fleet).expect_success().out().ends_with(" rules=0\n"));
    refused(&fleet, &["-C", "/", "--", "true"]);
}

#[test]
fn a_first_file_comes_into_force_too() {
    let fleet = Fleet::of_workers(["w1"]);
    assert!(reload(&fleet).expect_success().out().ends_with(" policy=none\n"));
    runs(&fleet, &["-C", "/", "--", "true"]);
    write_policy(&fleet, "");
    fleet.daemon("w1").signal(Signal::SIGHUP);
    fleet.daemon("w1").wait_for_line(PATIENCE, |line| line.contains("only what the policy allows is run"));
    refused(&fleet, &["-C", "/", "--", "true"]);
}

/// Whoever reloads is told of the file as it is at that moment, however many do.
#[test]
fn several_who_reload_at_once_are_all_told_the_truth() {
    let fleet = ruled("");
    for rules in 1..=5 {
        write_policy(&fleet, &rule("argv = [\"true\"]").repeat(rules));
        let reload = || fleet.command_on("w1", ["daemon", "reload"]).spawn();
        let running: Vec<_> = (0..4).map(|_| reload()).collect();
        for mut one in running {
            let said = one.wait(PATIENCE).expect_success().out();
            assert!(said.ends_with(&format!(" rules={rules}\n")), "{said}");
        }
    }
}

#[test]
fn a_daemon_that_does_not_run_or_does_not_answer_is_said() {
    let fleet = ruled("");
    let daemon = fleet.daemon("w1");
    daemon.freeze();
    let finished = fleet.command_on("w1", ["daemon", "reload", "--timeout", "200ms"]).run().expect_code(1);
    assert!(finished.err().contains("has not read it within 200ms"), "{finished:?}");
    daemon.thaw();
    daemon.terminate();
    let finished = reload(&fleet).expect_code(3);
    assert!(finished.err().starts_with("d: no daemon runs on "), "{finished:?}");
}

/// The file that is shipped as an example is one.
#[test]
fn the_example_is_a_policy() {
    let example = include_str!("../../deploy/policy.example.toml");
    let fleet = ruled(example);
    let said = reload(&fleet).expect_success().out();
    let rules = example.lines().filter(|line| *line == "[[allow]]").count();
    assert!(rules > 4 && said.ends_with(&format!(" rules={rules}\n")), "{said}");
}
