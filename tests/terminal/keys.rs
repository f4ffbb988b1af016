//! What is typed reaches the command, all of it and at once; sizes do too.

use peerbus::protocol::TtySize;

use crate::harness::fleet::Fleet;
use crate::person::{Person, SIZE, SOON};

/// A shell that says when it is ready for the next line. Keys that mean something else while a command runs (Ctrl-D,
/// Ctrl-R) are typed only after its prompt.
pub(crate) fn shell(fleet: &Fleet, more: &[&str]) -> Person {
    let command = ["exec", "-t", "-C", "/tmp", "w1", "--", "bash", "--norc", "--noprofile", "-i"];
    let (options, rest) = command.split_at(2);
    let mut person = Person::sits_down(fleet, &[options, more, rest].concat());
    person.types("bind 'set enable-bracketed-paste off'; PS1='ready> '; echo be''gun\r");
    person.until("begun\r\n");
    person.until("ready> ");
    person
}

#[test]
fn an_interactive_shell() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut person = shell(&fleet, &[]);
    person.types("tty; echo $TERM; stty size\r");
    let told = String::from_utf8(person.until("ready> ")).unwrap();
    assert!(
        told.contains("/dev/pts/") && told.contains("xterm-256color") && told.contains("24 80"),
        "{told}"
    );
    // A line is edited with the keys of readline, and found again.
    person.types("ecXho one");
    person.types("\x01\x1b[C\x1b[C\x1b[3~\r");
    person.until("\r\none\r\n");
    person.until("ready> ");
    person.types("\x12one\r");
    person.until("\r\none\r\n");
    person.types("echo 漢字 ümläut 🎉\r");
    person.until("\r\n漢字 ümläut 🎉\r\n");
    person.types("exit 7\r");
    person.until("exit\r\n");
    assert!(!person.terminal_is_usual() || person.d.try_wait(SOON).is_some());
    let (finished, _) = person.finishes();
    assert_eq!(finished.code(), Some(7));
}

#[test]
fn ctrl_c_ctrl_z_and_job_control() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut person = shell(&fleet, &[]);
    let in_front = "sh -c 'echo in fr''ont; exec sleep 1000'\r";
    person.types(in_front);
    person.until("in front\r\n");
    person.types("\x03");
    person.until("ready> ");
    person.types("echo code $?.\r");
    person.until("code 130.\r\n");
    person.types(in_front);
    person.until("in front\r\n");
    person.types("\x1a");
    person.until("Stopped");
    person.types("bg; jobs; echo lis''ted\r");
    let jobs = String::from_utf8(person.until("listed\r\n")).unwrap();
    assert!(jobs.contains("Running"), "{jobs}");
    person.types("kill %1; wait %1; echo en''ded $?.\r");
    person.until("ended 143.\r\n");
    person.until("ready> ");
    person.types("(exit 43)\r");
    person.until("ready> ");
    person.types("\x04");
    let (finished, _) = person.finishes();
    assert_eq!(finished.code(), Some(43), "that of the last command");
}

/// What comes after Ctrl-C is what was under way, and no more.
#[test]
fn ctrl_c_in_a_flood_takes_effect_at_once() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut person = shell(&fleet, &[]);
    person.types("yes\r");
    for _ in 0..200 {
        person.until("y\r\ny\r\ny\r\ny\r\n");
    }
    let before = person.bytes().len();
    person.types("\x03");
    person.until("ready> ");
    let after = person.bytes().len() - before;
    assert!(after < 4 * 1024 * 1024, "{after} bytes came after Ctrl-C");
    person.types("exit\r");
    person.finishes();
}

#[test]
fn the_size_follows_the_window() {
    // Not a trap of a shell: bash forgets a signal that comes while it does what the last one said.
    const SAYS_ITS_SIZE: &str = "import os, signal\n\
        signal.signal(signal.SIGWINCH, lambda *_: print('now', *reversed(os.get_terminal_size())))\n\
        print('ready')\n\
        input()";
    let fleet = Fleet::of_workers(["w1"]);
    let command = ["exec", "-t", "-C", "/", "w1", "--", "python3", "-u", "-c", SAYS_ITS_SIZE];
    let mut person = Person::sits_down(&fleet, &command);
    person.until("ready\r\n");
    for size in [TtySize { cols: 100, rows: 30 }, TtySize { cols: 132, rows: 50 }, SIZE] {
        person.resizes(size);
        person.until(format!("now {} {}\r\n", size.rows, size.cols));
    }
    person.types("\r");
    assert_eq!(person.finishes().0.code(), Some(0));
}

#[test]
fn sizes_that_are_none() {
    let fleet = Fleet::of_workers(["w1"]);
    let ask = || fleet.command(["exec", "-t", "-C", "/", "w1", "--", "stty", "size"]);
    let (finished, shown) = Person::at(ask(), TtySize { cols: 0, rows: 0 }).finishes();
    assert_eq!(finished.code(), Some(0), "{shown}");
    assert!(shown.contains("24 80\r\n"), "{shown}");
    // As much of it as a peer takes, at the start as later.
    let (finished, shown) = Person::at(ask(), TtySize { cols: 10_000, rows: 24 }).finishes();
    assert_eq!(finished.code(), Some(0), "{shown}");
    assert!(shown.contains("24 1000\r\n"), "{shown}");
}

/// Bytes 0 to 255, four times, to a command whose terminal changes nothing, and back.
#[test]
fn every_byte_goes_both_ways() {
    let fleet = Fleet::of_workers(["w1"]);
    let script = "stty raw -echo; echo ready; head -c 1024; echo done";
    let mut person =
        Person::sits_down(&fleet, &["exec", "-t", "--detach-keys", "none", "-C", "/", "w1", "--sh", script]);
    person.until("ready\n");
    let all: Vec<u8> = (0..4).flat_map(|_| 0..=255).collect();
    person.types(&all);
    assert_eq!(person.until("done\n"), all);
    let (finished, _) = person.finishes();
    assert_eq!(finished.code(), Some(0));
}

#[test]
fn input_that_is_no_terminal() {
    let fleet = Fleet::of_workers(["w1"]);
    for input in ["", "a line\n", "half a line"] {
        let cat =
            fleet.command(["exec", "-t", "-C", "/", "w1", "--sh", "stty -echo; echo ready; cat; echo over"]);
        let out = cat.input(input).run().expect_success().out();
        assert!(out.contains(input.trim_end()) && out.ends_with("over\r\n"), "{input:?}: {out:?}");
    }
    let script = "stty size; read -r word; echo got $word; cat; tty";
    let finished = fleet
        .command(["exec", "-t", "-C", "/", "w1", "--sh", script])
        .input("hello\nmore ~.\n")
        .run()
        .expect_success();
    let out = finished.out();
    assert!(out.contains("24 80\r\n") && out.contains("got hello\r\n") && out.contains("/dev/pts/"), "{out}");
    assert_eq!(out.matches("more ~.\r\n").count(), 2, "typed, and shown by cat: {out}");
    assert!(!out.contains('\x1b'), "nothing of d's own: {out:?}");
}

/// The kernel takes no more than so much that nobody reads: with a terminal that is gone, the rest must not be tried
/// for ever.
#[test]
fn a_paste_that_nobody_reads_does_not_keep_a_job_from_its_end() {
    let fleet = Fleet::of_workers(["w1"]);
    let paste: String = (1..30_000).map(|n| format!("{n}\n")).collect();
    let line = "echo ready; exec sleep 1000";
    let command = ["exec", "-t", "-C", "/", "w1", "--sh", line];
    let paste = || fleet.command(command).input(paste.clone()).spawn();
    let mut jobs = [(); 6].map(|()| paste());
    for job in &mut jobs {
        // What was typed is echoed by the terminal, as far as it took it, also before and behind this on the same line.
        job.stdout_line(SOON, |line| line.contains("ready"));
    }
    for id in running(&fleet) {
        // One whose shim was lost would be ended another way.
        let said = fleet.d(["stop", &format!("w1/{id}")]).expect_success().out();
        assert!(said.contains("has ended: cancelled") && !said.contains("killed"), "{said}");
    }
    for mut job in jobs {
        job.wait(SOON);
    }
}

/// The ids of the jobs of `w1`.
fn running(fleet: &Fleet) -> Vec<String> {
    let jobs = fleet.d(["jobs", "w1", "--json"]).expect_success().out();
    let ids = jobs.lines().map(|job| serde_json::from_str::<serde_json::Value>(job).unwrap());
    ids.map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
}

/// A shell that is told that its terminal goes writes its history; it would not heed TERM.
#[test]
fn a_shell_that_is_stopped_keeps_its_history() {
    let fleet = Fleet::of_workers(["w1"]);
    let history = fleet.path().join("history");
    let place = format!("HISTFILE={}", history.display());
    let mut person = shell(&fleet, &["--env", &place]);
    person.types("echo remem''ber\r");
    person.until("remember\r\n");
    person.until("ready> ");
    let id = running(&fleet).pop().expect("the shell");
    let said = fleet.d(["stop", &format!("w1/{id}")]).expect_success().out();
    assert!(said.contains("has ended: cancelled") && !said.contains("killed"), "{said}");
    let kept = std::fs::read_to_string(&history).unwrap_or_default();
    assert!(kept.contains("echo remem''ber\n"), "{kept:?}");
    person.finishes();
}
