//! What is seen of a terminal: in another size, of its log, and of one's own lines.

use peerbus::protocol::TtySize;

use crate::harness::fleet::Fleet;
use crate::person::{Person, SIZE, SOON};
use crate::sessions::new;

const SMALL: TtySize = TtySize { cols: 40, rows: 10 };
const LARGE: TtySize = TtySize { cols: 100, rows: 30 };

#[test]
fn a_terminal_of_another_size_sees_the_screen_and_not_garbage() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut person = new(&fleet, "work");
    // Rows with a number at both ends, the last without a new line.
    let fills = "clear; for n in {1..23}; do printf '%-60s%s\\n' \"row $n\" \"end $n\"; done; printf 'la''st: '; read x";
    person.types(format!("{fills}\r"));
    person.until_screen("the rows", |rows| rows[23] == "last:");
    let watches = fleet.command(["session", "attach", "--watch", "w1/work"]);
    let mut watcher = Person::at(watches, SMALL);
    let part = watcher.until_screen("a part of it", |rows| rows[8].starts_with("last:"));
    assert_eq!((part[7].as_str(), part[9].trim()), ("row 23", "d: the session is 80x24"));
    watcher.resizes(LARGE);
    let all = watcher.until_screen("its border", |rows| rows[24].contains("the session is 80x24"));
    assert_eq!(all[0], format!("{:<60}{:<20}\u{2502}", "row 1", "end 1"));
    watcher.resizes(SIZE);
    watcher.until_screen("all of it", |rows| rows == person.screen());

    // Whoever types has it in their size, and the other sees it in that.
    let mut other = Person::at(fleet.command(["session", "attach", "w1/work"]), SMALL);
    other.until_screen("it in a smaller size", |rows| rows[9].starts_with("last:"));
    person
        .until_screen("the border of the smaller", |rows| rows[10].contains("the session is 40x10; any key"));
    watcher.until_screen("the same", |rows| rows[10].contains("the session is 40x10"));
    person.types("\r\r");
    person.until_screen("its own size", |rows| {
        rows.iter().rfind(|row| !row.is_empty()).is_some_and(|row| row == "ready>")
    });
    other.until_screen("the hint at the larger", |rows| rows[9].contains("the session is 80x24; any key"));
    watcher.until_screen("the same", |rows| rows == person.screen());
    other.types("\x1dd");
    assert_eq!(other.finishes().0.code(), Some(0));
    person.types("exit\r");
    person.finishes();
    watcher.finishes();
}

/// It is text, on a terminal and elsewhere; bytes only where they are asked for, and then they are put away.
#[test]
fn the_log_of_a_terminal_is_text() {
    let fleet = Fleet::of_workers(["w1"]);
    let program = "printf 'before\\n\\033[?1049h\\033[?1000h\\033[2Jfull\\033[?1049l\\033[32mgreen\\033[m\\n'; \
                   for n in $(seq 40); do echo line $n; done; printf '\\033[?1h\\033[?1003hhalf'; read x";
    let job = fleet.d(["session", "new", "-d", "w1", "--", "sh", "-c", program]).expect_success().out();
    let job = format!("w1/{}", job.trim());
    let lines: String = (1..=40).map(|n| format!("line {n}\n")).collect();
    let text = format!("before\ngreen\n{lines}half\n");
    let log = || fleet.d(["logs", &job]).expect_success().out();
    crate::harness::wait::eventually(SOON, "all of it", || (log() == text).then_some(()));

    let (finished, shown) = Person::sits_down(&fleet, &["logs", &job]).finishes();
    assert_eq!(finished.code(), Some(0));
    assert!(shown.contains("\x1b[0;32mgreen\x1b[0m\r\n") && !shown.contains("\x1b[?"), "{shown:?}");
    let mut follower = Person::sits_down(&fleet, &["logs", "-f", &job]);
    follower.until("line 39\r\n");
    follower.types("\x03");
    let (_, shown) = follower.finishes();
    assert!(shown.contains("half\r\n") && !shown.contains("\x1b[?"), "{shown:?}");

    let put_away = |words: &[&str]| {
        let (_, shown) = Person::sits_down(&fleet, words).finishes();
        let (_, rest) = shown.split_once("half").unwrap_or_else(|| panic!("{shown:?}"));
        assert!(rest.contains("\x1b[?1003l") && rest.contains("\x1b[?1l"), "{words:?}: {shown:?}");
    };
    put_away(&["logs", "--raw", &job]);
    fleet.d(["stop", &job]).expect_success();
    put_away(&["attach", "--since-byte", "0", &job]);
    let (_, shown) = Person::sits_down(&fleet, &["attach", &job]).finishes();
    assert!(shown.contains("line 40\r\nhalf\r\n") && !shown.contains("\x1b[?"), "{shown:?}");
}
