//! The log: all of it, its end, what is added, and its limit.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use peerbus::process::LOG_LIMIT;

use crate::lifecycle::bench::{Machine, SOON, says};

fn add(machine: &Machine, line: &str) {
    let mut log = File::options().append(true).open(machine.log()).unwrap();
    writeln!(log, "{line}").unwrap();
}

#[test]
fn its_end_is_shown() {
    let machine = Machine::new();
    machine.started();
    for number in 0..300 {
        add(&machine, &format!("line {number}"));
    }
    let lines = |arguments: &[&str]| {
        let finished = machine.command(["daemon", "logs"]).with(|d| _ = d.args(arguments)).run();
        finished.expect_success().out().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&["-n", "2"]), ["line 298", "line 299"]);
    assert_eq!(lines(&["-n", "0"]), Vec::<String>::new());
    let usual = lines(&[]);
    assert_eq!((usual.len(), usual[0].as_str()), (100, "line 200"));
    assert!(lines(&["-n", "1000"]).iter().any(|line| line.starts_with("ready peer=w1")));
}

#[test]
fn what_is_added_is_followed_over_a_restart_and_an_emptying() {
    let machine = Machine::new();
    machine.started();
    let mut live = machine.command(["daemon", "logs", "-f", "-n", "1"]).spawn();
    live.stdout_line(SOON, |line| line.starts_with("ready "));
    machine.command(["daemon", "restart"]).run().expect_success();
    add(&machine, "after the restart");
    live.stdout_line(SOON, |line| line == "after the restart");
    File::options().write(true).open(machine.log()).unwrap().set_len(0).unwrap();
    add(&machine, "anew");
    live.stdout_line(SOON, |line| line == "anew");
    let text = live.stdout.text();
    assert_eq!(text.lines().filter(|line| line.starts_with("ready ")).count(), 2, "{text}");
}

#[test]
fn a_large_log_is_put_aside_and_nothing_is_lost() {
    let machine = Machine::new();
    machine.started();
    machine.stop().run().expect_success();
    let filling = "x".repeat(1023) + "\n";
    fs::write(machine.log(), filling.repeat(usize::try_from(LOG_LIMIT / 1024).unwrap())).unwrap();
    add(&machine, "the last before");
    let mut live = machine.command(["daemon", "logs", "-f", "-n", "1"]).spawn();
    live.stdout_line(SOON, |line| line == "the last before");
    // Says much, so that it comes to that.
    let pid =
        crate::lifecycle::bench::pid_in(&machine.start().env("PEERBUS_LOG", "trace").run().expect_success());
    machine.stop().run().expect_success();
    let aside = machine.state().join("daemon.log.1");
    let old = fs::read_to_string(&aside).unwrap();
    let new = fs::read_to_string(machine.log()).unwrap();
    assert!(old.starts_with(&filling) && old.contains("\nthe last before\n"));
    assert!(old.len() as u64 > LOG_LIMIT && (new.len() as u64) < LOG_LIMIT);
    assert!(new.contains("ready peer=w1"), "{new}");
    for file in [&aside, &machine.log()] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    add(&machine, "the end");
    live.stdout_line(SOON, |line| line == "the end");
    let begin = old.find("the last before").unwrap();
    assert_eq!(live.stdout.text(), format!("{}{new}the end\n", &old[begin..]));
    let whole = machine.command(["daemon", "logs", "-n", "100000"]).run().expect_success();
    assert_eq!(whole.stdout.len(), old.len() + new.len() + "the end\n".len());
    assert!(crate::harness::procs::look_at(pid).is_none());
}

#[test]
fn where_there_is_none_it_is_said() {
    let machine = Machine::new();
    for arguments in [&["daemon", "logs"][..], &["daemon", "logs", "-f"]] {
        let finished = machine.command(arguments).run().expect_code(1);
        says(&finished, &["there is no log", "daemon.log", "d daemon start"]);
    }
}

#[test]
fn its_reader_may_go() {
    let machine = Machine::new();
    machine.started();
    let mut live = machine.command(["daemon", "logs", "-f", "-n", "1"]).spawn();
    live.stdout_line(SOON, |line| line.starts_with("ready "));
    live.stdout.close();
    add(&machine, "one more");
    live.wait(SOON).expect_code(141);
}
