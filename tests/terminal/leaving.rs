//! Leaving a terminal that goes on: with keys in every dialect, past whatever the terminal says by itself; and what is
//! left for the shell afterwards.

use nix::sys::signal::Signal;

use crate::harness::fleet::Fleet;
use crate::harness::wait::eventually;
use crate::person::{Person, SIZE, SOON};
use crate::sessions::new;

/// A shell script in a terminal, which finds `d` as `$D`.
fn script(fleet: &Fleet, script: &str) -> Person {
    let command = fleet.command([""; 0]).instead("bash").env("D", env!("CARGO_BIN_EXE_d"));
    Person::at(command.with(|command| _ = command.args(["-c", script])), SIZE)
}

#[test]
fn the_keys_that_leave_in_every_dialect_of_terminals() {
    let fleet = Fleet::of_workers(["w1"]);
    drop(new(&fleet, "work"));
    for (watches, keys) in [
        (false, "\x1b[27;5;93~d"),
        (false, "\x1b[93;5u\x1b[93;5:3u\x1b[100u"),
        (false, "\r\x1b[I~\x1b[<35;10;10M."),
        (false, "\r\x1b]11;rgb:0000/0000/0000\x1b\\~."),
        (true, "\x1b[I\x1b[99;5u"),
        (true, "\x1b[113u"),
    ] {
        let watch = if watches { &["--watch"][..] } else { &[] };
        let words = [&["session", "attach"], watch, &["w1/work"]].concat();
        let mut person = Person::sits_down(&fleet, &words);
        person.until("ready> ");
        person.types(keys);
        person.until("shows it again\r\n");
        assert_eq!(person.finishes().0.code(), Some(0), "{keys:?}");
    }
}

/// Whatever is in it, and wherever the reads end.
#[test]
fn a_paste_reaches_the_program_as_it_is() {
    const PASTED: &str = "\x1b[200~~~~sh\r~?\r~.\r\x1ddX\x1b[27;5;93~d\x1b[201~";
    let fleet = Fleet::of_workers(["w1"]);
    let bytes = PASTED.len();
    let program =
        format!("stty raw -echo; printf 'ready\\r\\n'; head -c {bytes} | cat -v; printf '\\r\\nall\\r\\n'");
    for cut in [0, 3, 5, bytes - 4] {
        let command = ["exec", "-t", "-C", "/", "w1", "--sh", &program];
        let mut person = Person::sits_down(&fleet, &command);
        person.until("ready\r\n");
        let (before, after) = PASTED.split_at(cut);
        person.types(before);
        person.types(after);
        let got = String::from_utf8(person.until("\r\nall\r\n")).unwrap();
        assert_eq!(got.trim_start(), PASTED.replace('\x1b', "^[").replace('\r', "^M").replace('\x1d', "^]"));
        assert_eq!(person.finishes().0.code(), Some(0));
    }
}

#[test]
fn what_is_typed_behind_the_keys_that_leave_is_the_shells() {
    let fleet = Fleet::of_workers(["w1"]);
    drop(new(&fleet, "work"));
    let mut person =
        script(&fleet, "$D session attach w1/work; read -r line; echo \"the shell got: $line.\"");
    person.until("ready> ");
    // As a shell that edits its lines reads it: the key Return is no end of a line in a terminal that was raw.
    person.types("\r~.echo left over\n");
    person.until("the shell got: echo left over.\r\n");
    person.finishes();
}

/// A program asks, and is gone before the terminal answers.
#[test]
fn answers_that_come_late_are_not_typed_to_the_shell() {
    let fleet = Fleet::of_workers(["w1"]);
    let asks = "printf 'asked\\033]11;?\\007'";
    let shell =
        format!("$D exec -t -C / w1 --sh \"{asks}\"; printf 'over '; read -r line; echo \"got: $line.\"");
    let mut person = script(&fleet, &shell);
    person.until("asked\x1b]11;?\x07");
    // The last question, when all is over.
    person.until("\x1b[c");
    person.types("\x1b]11;rgb:0000/0000/0000\x1b\\\x1b[?64;1c");
    person.until("over ");
    person.types("typed\r");
    person.until("got: typed.\r\n");
    person.finishes();
}

#[test]
fn without_a_terminal_nobody_types_unless_that_is_asked_for() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut person = new(&fleet, "work");
    for words in [&["session", "attach", "w1/work"][..], &["session", "new", "w1"]] {
        let refused = fleet.d(words).expect_code(2);
        assert!(refused.err().contains("no terminal to sit down at"), "{}", refused.err());
    }
    let watching = fleet.command(["attach", "w1/work"]).spawn();
    let viewers = |count: u32| {
        let wanted = format!("\"viewers\":{count},");
        eventually(SOON, "viewers", || {
            let listed = fleet.d(["session", "list", "w1", "--json"]).expect_success().out();
            listed.contains(&wanted).then_some(())
        });
    };
    viewers(2);
    person.types("echo still he''re\r");
    person.until("still here\r\n");
    let typed = fleet.command(["session", "attach", "-i", "w1/work"]).input("exit 5\n").run();
    assert_eq!(typed.code(), Some(5));
    let mut watching = watching;
    assert_eq!(watching.wait(SOON).code(), Some(5));
    assert_eq!(person.finishes().0.code(), Some(5));
    // What is started for an input ends with it, though it throws away what is typed before it is ready.
    let shell = ["exec", "-t", "-C", "/", "w1", "--", "bash", "--norc", "--noprofile"];
    fleet.d(shell).expect_success();
}

/// As by Ctrl-Z in a program that has the signal sent: the terminal is put away, and made anew afterwards.
#[test]
fn stopped_and_going_on_again() {
    let fleet = Fleet::of_workers(["w1"]);
    let program = "stty raw -echo; printf '\\033[?1049h\\033[2J\\033[?1003hfull'; head -c 1 >/dev/null";
    let mut person = Person::sits_down(&fleet, &["exec", "-t", "-C", "/", "w1", "--sh", program]);
    person.until("full");
    person.d.signal(Signal::SIGTSTP);
    person.until("\x1b[?1003l");
    person.until("\x1b[?1049l");
    eventually(SOON, "the terminal of before", || person.terminal_is_usual().then_some(()));
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", person.d.pid())).unwrap();
    eventually(SOON, "d to be stopped", || state().contains(") T ").then_some(()));
    person.d.signal(Signal::SIGCONT);
    person.until("\x1b[?1049h");
    person.until("full");
    person.until("\x1b[?1003h");
    eventually(SOON, "a terminal that is read key by key", || (!person.terminal_is_usual()).then_some(()));
    person.types("x");
    assert_eq!(person.finishes().0.code(), Some(0));
}

/// The clipboard is that of whoever typed last.
#[test]
fn a_clipboard_is_set_for_who_types_and_never_for_who_watches() {
    const SETS: &str = "\x1b]52;c;aGk=\x07";
    let fleet = Fleet::of_workers(["w1"]);
    let mut person = new(&fleet, "work");
    let mut watcher = Person::sits_down(&fleet, &["session", "attach", "--watch", "w1/work"]);
    watcher.until("ready> ");
    person.types("printf '\\033]52;c;aGk=\\007set\\n'\r");
    person.until(format!("{SETS}set"));
    watcher.until("\nset");
    assert!(!String::from_utf8_lossy(&watcher.bytes()).contains("\x1b]52;"));
    person.types("exit\r");
    person.finishes();
    watcher.finishes();
}
