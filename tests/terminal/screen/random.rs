//! Sequences nobody thought of: any order of what terminals understand, cut anywhere.

use peerbus::protocol::TtySize;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};

use crate::screen::whole::{Tally, compare};

const SIZE: TtySize = TtySize { cols: 12, rows: 5 };

/// Sequences of one kind each, which take up to two numbers. Not the way back to a tab, after which the reference
/// takes the cursor to be behind the last column still.
const NUMBERED: [&str; 26] = [
    "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "P", "S", "T", "X", "@", "d", "f", "`",
    "a", "e", "r", "g", " q",
];

const FIXED: [&str; 40] = [
    "\r",
    "\n",
    "\t",
    "\x08",
    "\r\n",
    "\x0e",
    "\x0f",
    "\x1b7",
    "\x1b8",
    "\x1bD",
    "\x1bE",
    "\x1bM",
    "\x1bH",
    "\x1b=",
    "\x1b>",
    "\x1b(0",
    "\x1b(B",
    "\x1b)0",
    "\x1b)B",
    "\x1b[s",
    "\x1b[u",
    "\x1b#8",
    // With a title, as the reference forgets its own then and tells nobody.
    "\x1bc\x1b]2;r\x07",
    "\x1b[r",
    "\x1b[3g",
    "\x1b]2;t\x07",
    "\x1b]0;\u{fc};x\x1b\\",
    "\x1b[22;0t",
    "\x1b[23;0t",
    "\x1b]8;id=a;http://a/\x1b\\",
    "\x1b]8;;\x07",
    "\x1b]4;3;#123456\x07",
    "\x1b]104;3\x07",
    "\x1bPq~~\x1b\\",
    "\x1b_x\x1b\\",
    "\x1b[31\x18",
    "\x1b[2J\x1b[H",
    "\x1b[>1u",
    "\x1b[<u",
    "\x1b[?1004;2004h",
];

const SWITCHES: [&str; 16] = [
    "4", "20", "?1", "?6", "?7", "?12", "?25", "?1000", "?1002", "?1003", "?1005", "?1006", "?1007", "?1049",
    "?1049", "?2026",
];

const TEXTS: [&str; 14] = [
    "a",
    "xyz",
    "漢",
    "字漢字",
    "e\u{301}",
    "🎉",
    "hello, world; hello",
    " ",
    "ümläut",
    "─",
    "\u{200d}",
    "qqq",
    "0123456789",
    "漢a漢b漢c漢",
];

const PENS: [&str; 16] = [
    "0",
    "1",
    "2",
    "3",
    "4",
    "4:3",
    "7",
    "8",
    "9",
    "31",
    "42",
    "95",
    "38;5;100",
    "48;2;1;2;3",
    "58:5:7",
    "39;49",
];

fn any_piece() -> impl Strategy<Value = String> {
    let number = prop_oneof![Just(String::new()), (0..15_u16).prop_map(|n| n.to_string())];
    let numbered = (proptest::sample::select(&NUMBERED[..]), number.clone(), number)
        // The reference leaves a row that is to be cleared, and forgets margins below the last row.
        .prop_filter("what the reference does not do", |(letter, one, two)| {
            let high = |text: &str| text.parse::<u16>().is_ok_and(|n| n > 5);
            !(*letter == "J" && one == "1" || *letter == "r" && (high(one) || high(two)))
        })
        .prop_map(|(letter, one, two)| match two.is_empty() {
            true => format!("\x1b[{one}{letter}"),
            false => format!("\x1b[{one};{two}{letter}"),
        });
    prop_oneof![
        5 => proptest::sample::select(&TEXTS[..]).prop_map(str::to_owned),
        4 => numbered,
        2 => proptest::sample::select(&FIXED[..]).prop_map(str::to_owned),
        1 => (proptest::sample::select(&SWITCHES[..]), any::<bool>())
            .prop_map(|(mode, on)| format!("\x1b[{mode}{}", if on { 'h' } else { 'l' })),
        2 => proptest::sample::select(&PENS[..]).prop_map(|pen| format!("\x1b[{pen}m")),
    ]
}

/// What is known not to be restored: all of it cannot be seen.
fn is_known(difference: &str) -> bool {
    !difference.contains(", seen: ")
        // Where the cursor stands behind the last column, or nothing on the screen is blank.
        && (difference.contains("after the probe \"\\u{1b}[3b\"")
        // Which of two rows at the bottom go on in a next one.
            || difference.contains("WRAPLINE") || difference.contains("LEADING")
        // Half of a wide character that is alone, where the cursor stands behind it.
            || difference.contains("WIDE_CHAR_SPACER"))
}

#[test]
fn fidelity_of_random_sequences() {
    let config =
        Config { cases: 1500, max_shrink_iters: 2000, failure_persistence: None, ..Config::default() };
    // The same ones each time, so that whoever sees it fail has changed something.
    let same = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, same);
    let all = std::cell::RefCell::new(Tally::default());
    let ran = runner.run(
        &(proptest::collection::vec(any_piece(), 1..40), any::<proptest::sample::Index>()),
        |(pieces, cut)| {
            let raw = pieces.concat();
            let tally = compare("random", raw.as_bytes(), SIZE, std::iter::once(cut.index(raw.len() + 1)));
            let unknown: Vec<_> =
                tally.differences.iter().filter(|found| !is_known(found)).cloned().collect();
            all.borrow_mut().add(tally);
            prop_assert!(unknown.is_empty(), "{raw:?}: {unknown:?}");
            Ok(())
        },
    );
    let all = all.into_inner();
    println!("random: {} of {} the same in all state, {} as seen", all.same, all.cuts, all.seen_the_same);
    if let Err(error) = ran {
        panic!("{error}");
    }
}
