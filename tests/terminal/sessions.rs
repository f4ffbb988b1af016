//! Terminals with a name: left, found again, watched, stopped.

use crate::harness::fleet::Fleet;
use crate::person::Person;

pub(crate) fn new(fleet: &Fleet, name: &str) -> Person {
    let command =
        ["session", "new", "--name", name, "-C", "/tmp", "w1", "--", "bash", "--norc", "--noprofile", "-i"];
    let mut person = Person::sits_down(fleet, &command);
    person.types("bind 'set enable-bracketed-paste off'; PS1='ready> '; echo be''gun\r");
    person.until("begun\r\n");
    person.until("ready> ");
    person
}

/// Leaves with these keys; the terminal is as it was.
fn leaves(mut person: Person, keys: &str) -> String {
    person.types(keys);
    person.until("shows it again\r\n");
    let ended = person.d.wait(crate::person::SOON);
    assert_eq!(ended.code(), Some(0));
    assert!(person.terminal_is_usual(), "the terminal is raw still");
    String::from_utf8_lossy(&person.bytes()).into_owned()
}

#[test]
fn left_and_found_again() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut person = new(&fleet, "work");
    person.types("kept=here\r");
    person.until("ready> ");
    let shown = leaves(person, "\x1dd");
    assert!(shown.contains("d: left work on w1, which goes on"), "{shown}");

    let mut person = Person::sits_down(&fleet, &["session", "attach", "w1/work"]);
    person.until_screen("the screen", |rows| rows.iter().any(|row| row.starts_with("ready> kept=here")));
    person.types("\recho $kept after$kept\r");
    person.until("here afterhere\r\n");
    person.until("ready> ");
    // As with ssh, at the beginning of a line.
    leaves(person, "\r~.");

    let listed = fleet.d(["session", "list", "w1"]).expect_success().out();
    assert!(listed.contains("work") && listed.contains("running"), "{listed}");
    let stopped = fleet.d(["session", "stop", "w1/work"]).expect_success().out();
    assert!(stopped.contains("has ended"), "{stopped}");
    let gone = fleet.d(["session", "attach", "--watch", "w1/work"]).expect_code(1);
    assert!(gone.err().contains("goes on no more"), "{}", gone.err());
}

/// Who watches sees all of it and changes nothing.
#[test]
fn watched_by_somebody() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut person = new(&fleet, "shared");
    let mut watcher = Person::sits_down(&fleet, &["session", "attach", "--watch", "w1/shared"]);
    watcher.until("ready> ");
    watcher.types("echo not for you\r");
    person.types("printf 'before\\033[6nafter\\n'; read -rs -d R answer; echo ans''wered\r");
    // Somebody asks the terminal where its cursor is: only who writes may hear that.
    person.until("before\x1b[6nafter");
    person.types("\x1b[7;1R");
    person.until("answered\r\n");
    watcher.until("answered\r\n");
    let seen = String::from_utf8_lossy(&watcher.bytes()).into_owned();
    assert!(seen.contains("beforeafter") && !seen.contains("\x1b[6n"), "{seen:?}");
    assert!(!String::from_utf8_lossy(&person.bytes()).contains("not for you"));
    watcher.types("\x03");
    assert_eq!(watcher.finishes().0.code(), Some(0));
    person.types("exit 3\r");
    assert_eq!(person.finishes().0.code(), Some(3));
}

/// What a program asked its terminal is not asked of whoever reads about it later: the answers would be typed into
/// their own shell.
#[test]
fn a_log_asks_nothing_of_the_terminal_it_is_read_in() {
    let fleet = Fleet::of_workers(["w1"]);
    let script = "printf 'before\\033[6nafter\\033]11;?\\007\\033[31mred\\n'; read x";
    let job = fleet.d(["session", "new", "-d", "w1", "--", "sh", "-c", script]).expect_success().out();
    let job = format!("w1/{}", job.trim());
    let mut person = Person::sits_down(&fleet, &["attach", "--since-byte", "0", "--watch", &job]);
    person.until("beforeafter\x1b[31mred");
    person.types("\x03");
    person.finishes();
    let (finished, shown) = Person::sits_down(&fleet, &["logs", "--raw", &job]).finishes();
    assert!(shown.contains("beforeafter\x1b[31mred"), "{shown:?}");
    assert_eq!(finished.code(), Some(0));
    // In a file it is what it was.
    let written = fleet.d(["logs", "--raw", &job]).expect_success().out();
    assert!(written.contains("before\x1b[6nafter\x1b]11;?\x07\x1b[31mred"), "{written:?}");
}

#[test]
fn the_login_shell_where_nothing_is_named() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut person = Person::sits_down(&fleet, &["session", "new", "w1"]);
    person.types("shopt -q login_shell && echo lo''gin; pwd; exit\r");
    person.until("login\r\n");
    assert_eq!(person.finishes().0.code(), Some(0));
}

#[test]
fn a_name_that_is_none_is_refused() {
    let fleet = Fleet::of_workers(["w1"]);
    let refused = fleet.d(["session", "new", "--name", "a/b", "w1"]).expect_code(2);
    assert!(refused.err().contains("a name has letters"), "{}", refused.err());
    let refused = fleet.d(["exec", "-t", "--detach-keys", "ctrl-1", "w1", "--", "true"]).expect_code(2);
    assert!(refused.err().contains("is no key"), "{}", refused.err());
}
