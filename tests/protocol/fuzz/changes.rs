//! Messages, changed at random.

use proptest::prelude::*;
use proptest::sample::Index;

/// Parts that have made decoders stumble before, here or elsewhere.
const NASTY: [&str; 26] = [
    "[",
    "{",
    "\"",
    "}",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "-0",
    "0.1",
    "1e999",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\u{0}",
    "\r\n",
    "\u{2028}",
    "{\"type\":1}",
    "\"type\":\"peerbus.exec.v9\",",
    "[[[[[[[[[[[[[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
    "..//..\u{7f}",
];

/// One change of a message.
#[derive(Debug, Clone)]
enum Change {
    Byte(Index, u8),
    Remove(Index, u8),
    Insert(Index, usize),
    Repeat(Index, u8, u8),
    Cut(Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (any::<Index>(), 1..40_u8).prop_map(|(at, length)| Change::Remove(at, length)),
        (any::<Index>(), 0..NASTY.len()).prop_map(|(at, which)| Change::Insert(at, which)),
        (any::<Index>(), 1..20_u8, 1..20_u8)
            .prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
        any::<Index>().prop_map(Change::Cut),
    ]
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        let place = |at: &Index, to: &[u8]| at.index(to.len() + 1);
        match self {
            Self::Byte(at, byte) => {
                let at = place(at, to);
                to.get_mut(at).into_iter().for_each(|it| *it = *byte);
            }
            Self::Remove(at, length) => {
                let at = place(at, to);
                drop(to.drain(at..to.len().min(at + usize::from(*length))));
            }
            Self::Insert(at, which) => {
                let at = place(at, to);
                drop(to.splice(at..at, NASTY[*which].bytes()));
            }
            Self::Repeat(at, length, times) => {
                let at = place(at, to);
                let part = to[at..to.len().min(at + usize::from(*length))].repeat(usize::from(*times));
                drop(to.splice(at..at, part));
            }
            Self::Cut(at) => to.truncate(place(at, to)),
        }
    }
}

/// One of these messages, with up to six changes.
pub(crate) fn changed(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(seeds), prop::collection::vec(change(), 0..6)).prop_map(|(mut message, changes)| {
        changes.iter().for_each(|change| change.apply(&mut message));
        message
    })
}
