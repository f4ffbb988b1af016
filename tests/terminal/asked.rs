//! Several write to one terminal, and the program asks it something: one of theirs answers.

use std::io::Write;

use crate::harness::fleet::Fleet;
use crate::harness::wait::eventually;
use crate::person::{Person, SOON};

const QUESTION: &str = "\x1b[6n";

/// Sits down at the session `asking`; it has shown its screen.
fn sits(fleet: &Fleet) -> Person {
    let mut person = Person::sits_down(fleet, &["session", "attach", "w1/asking"]);
    person.until("ready");
    person
}

/// Begins the session with a script in a terminal that changes nothing.
fn begins(fleet: &Fleet, script: &str) -> Person {
    let script = format!("stty raw -echo; printf ready; {script}");
    let words = ["session", "new", "--name", "asking", "-C", "/", "w1", "--", "bash", "-c", &script];
    let mut person = Person::sits_down(fleet, &words);
    person.until("ready");
    person
}

/// Whether somebody was asked, in the round that ends with this.
#[track_caller]
fn was_asked(person: &mut Person, end: &str) -> bool {
    let shown = person.until(end);
    shown.windows(QUESTION.len()).any(|window| window == QUESTION.as_bytes())
}

#[test]
fn who_was_active_last_is_asked_and_who_remains() {
    let fleet = Fleet::of_workers(["w1"]);
    let fifo = fleet.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Each round is begun from outside, so that nobody becomes active by it.
    let ask = format!(
        "ask() {{ read -r round < {}; printf \"ask$round\\033[6nend$round\"; IFS= read -rd R answer; \
         printf \"got$round:${{answer#*[}}.\"; }}",
        fifo.display()
    );
    let script = format!(
        "{ask}; ask; ask; IFS= read -rn1 key; printf \"key:$key.\"; ask; ask; IFS= read -rd Z rest; \
         printf \"rest:$rest.\""
    );
    let round = |n: u32| writeln!(std::fs::File::options().write(true).open(&fifo).unwrap(), "{n}").unwrap();
    let mut first = begins(&fleet, &script);
    // What it asks while one alone is there.
    round(1);
    assert!(was_asked(&mut first, "end1"));
    first.types("\x1b[1;1R");
    first.until("got1:1;1.");
    // Who has come last.
    let mut second = sits(&fleet);
    round(2);
    assert!(was_asked(&mut second, "end2") && !was_asked(&mut first, "end2"));
    second.types("\x1b[2;2R");
    second.until("got2:2;2.");
    // Who has typed last.
    first.types("x");
    first.until("key:x.");
    round(3);
    assert!(was_asked(&mut first, "end3") && !was_asked(&mut second, "end3"));
    first.types("\x1b[3;3R");
    first.until("got3:3;3.");
    // Who remains.
    first.types("\x1dd");
    assert_eq!(first.d.wait(SOON).code(), Some(0));
    let viewers = || {
        let listed = fleet.d(["session", "list", "w1", "--json"]).expect_success().out();
        listed.contains("\"viewers\":1,").then_some(())
    };
    eventually(SOON, "the first to be gone", viewers);
    round(4);
    assert!(was_asked(&mut second, "end4"));
    second.types("\x1b[4;4R");
    second.until("got4:4;4.");
    // Nothing came twice.
    second.types("Z");
    second.until("rest:.");
    assert_eq!(second.finishes().0.code(), Some(0));
}

/// Two type by turns while the program asks and asks: each question is one's, and no other's.
#[test]
fn each_question_reaches_one_whoever_types_meanwhile() {
    const QUESTIONS: usize = 2_000;
    const EACH: usize = 25;
    let fleet = Fleet::of_workers(["w1"]);
    // What is typed is read away. Whoever is to type next is waited for.
    let script = format!(
        "IFS= read -rn1 key; for i in {{1..{QUESTIONS}}}; do printf \"<$i \\033\"; printf '[6n>'; \
         IFS= read -rn1 -t 0.001 key; \
         if ((i % {EACH} == 0 && i + {EACH} < {QUESTIONS})); then IFS= read -rn1 key; fi; done; \
         printf done; read -rd Z rest"
    );
    let mut first = begins(&fleet, &script);
    let mut second = sits(&fleet);
    first.types("!");
    for (turn, at) in (EACH..QUESTIONS).step_by(EACH).enumerate() {
        let typist = if turn % 2 == 0 { &mut second } else { &mut first };
        typist.types("xyz");
        typist.until(format!("<{at} "));
    }
    let counts = [&mut first, &mut second].map(|person| {
        person.until("done");
        let shown = person.bytes();
        shown.windows(QUESTION.len()).filter(|window| *window == QUESTION.as_bytes()).count()
    });
    assert_eq!(counts.iter().sum::<usize>(), QUESTIONS, "{counts:?}");
    assert!(counts.iter().all(|count| *count > QUESTIONS / 10), "both had their turns: {counts:?}");
    first.types("Z");
    assert_eq!(first.finishes().0.code(), Some(0));
    assert_eq!(second.finishes().0.code(), Some(0));
}
