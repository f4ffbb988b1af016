//! Programs that fill the screen, left and found again exactly as they stand.

use crate::harness::fleet::Fleet;
use crate::keys::shell;
use crate::person::Person;

fn is_there(program: &str) {
    let found =
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|at| at.join(program).is_file());
    assert!(found, "{program} is missing: install it (apt-get install {program})");
}

/// The screen that somebody leaves is the one that is found again, to the cell.
#[track_caller]
fn found_again_as_left(program: &str, keys: &str, is_drawn: impl Fn(&[String]) -> bool, quit: &str) {
    is_there(program.split(' ').next().unwrap());
    let fleet = Fleet::of_workers(["w1"]);
    fleet.file(
        "text",
        (1..=500).map(|n| format!("line {n} of a text with ümläuts and 漢字\n")).collect::<String>(),
    );
    let mut person = shell(&fleet, &[]);
    let text = fleet.path().join("text").display().to_string();
    person.types(format!("{}\r", program.replace("TEXT", &text)));
    person.until_screen("the program", |rows| is_drawn(rows));
    person.types(keys);
    let job = running(&fleet);
    // Whoever watches has the screen from a snapshot, the person from all bytes: both must agree.
    let mut watcher = Person::sits_down(&fleet, &["session", "attach", "--watch", &format!("w1/{job}")]);
    watcher.until_screen("the same screen", |rows| rows == person.screen() && is_drawn(rows));
    person.types("\x1dd");
    person.until("shows it again\r\n");
    let (_, left) = person.finishes();
    assert!(left.contains("\x1b[?1049l"), "the alternate screen is left: {left:?}");
    let mut person = Person::sits_down(&fleet, &["session", "attach", &format!("w1/{job}")]);
    person.until_screen("the screen as it was left", |rows| rows == watcher.screen() && is_drawn(rows));
    person.types(quit);
    person.until_screen("the shell", |rows| {
        rows.iter().rfind(|row| !row.is_empty()).is_some_and(|row| row == "ready>")
    });
    person.types("exit 4\r");
    assert_eq!(person.finishes().0.code(), Some(4));
    assert_eq!(watcher.finishes().0.code(), Some(4));
}

fn running(fleet: &Fleet) -> String {
    let listed = fleet.d(["session", "list", "w1", "--json"]).expect_success().out();
    let job: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    job["id"].as_str().unwrap().to_owned()
}

#[test]
fn vim() {
    let drawn = |rows: &[String]| rows.iter().any(|row| row.contains("of a text"));
    found_again_as_left("vim -u NONE -N TEXT", "\x06\x06/line 99\r", drawn, ":q!\r");
}

#[test]
fn less() {
    let drawn = |rows: &[String]| rows.iter().any(|row| row.contains("of a text"));
    found_again_as_left("less TEXT", "  b/line 77\r", drawn, "q");
}

#[test]
fn htop() {
    // Seldom something new: whoever comes back has the screen, and does not wait for it.
    let drawn = |rows: &[String]| rows.iter().any(|row| row.contains("F10"));
    found_again_as_left("htop -d 100", "", drawn, "q");
}
