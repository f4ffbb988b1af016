//! Whether a restored terminal is the same as one that was there from the start.

use peerbus::protocol::TtySize;
use peerbus::screen::Screen;

use crate::harness::reference::{Reference, State};

/// Shows what is in no cell: margins, tab stops, sets of characters, the saved cursor, the last
/// character, insert mode, what the other screen holds.
const PROBES: [&[u8]; 7] = [
    b"\x1b[3b",
    b"qqq\x0fqqq\x0eqqq",
    b"\r\tA\tB\tC\tD\tE\tF\tG",
    b"\x1b[H\x1b[99BX\n\n\nY\x1b[99AZ\x1bM\x1bMZ",
    b"\x1b8S",
    b"\x1b[?1049hold\x1b8alternate",
    b"\x1b[?1049lP\x1b[?1049h\x1b[<1u\x1b[23tQ",
];

/// What was compared, and what differed.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cuts: usize,
    pub(crate) same: usize,
    pub(crate) seen_the_same: usize,
    pub(crate) bytes: usize,
    pub(crate) differences: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.same += other.same;
        self.seen_the_same += other.seen_the_same;
        self.bytes += other.bytes;
        self.differences.extend(other.differences);
    }
}

/// Compares at each cut; the snapshots are of one screen that goes on.
pub(crate) fn compare(name: &str, raw: &[u8], size: TtySize, cuts: impl Iterator<Item = usize>) -> Tally {
    let mut tally = Tally::default();
    let mut screen = Screen::new(size);
    let at_the_end = state_after(size, &[raw]);
    let mut fed = 0;
    for cut in cuts {
        screen.feed(&raw[fed..cut]);
        fed = cut;
        let snapshot = screen.snapshot();
        tally.bytes += snapshot.len();
        tally.cuts += 1;
        match difference((raw, &at_the_end), cut, size, &snapshot) {
            Found::Nothing => {
                tally.same += 1;
                tally.seen_the_same += 1;
            }
            Found::Hidden(what) => {
                tally.seen_the_same += 1;
                tally.differences.push(format!("{name} at {cut}: {what}"));
            }
            Found::Seen(what) => tally.differences.push(format!("{name} at {cut}, seen: {what}")),
        }
    }
    tally
}

enum Found {
    Nothing,
    /// Only what is not seen, or not yet.
    Hidden(String),
    Seen(String),
}

/// All of it in one piece.
fn state_after(size: TtySize, fed: &[&[u8]]) -> State {
    let mut terminal = Reference::new(size);
    terminal.feed(&fed.concat());
    terminal.into_state()
}

fn difference((raw, at_the_end): (&[u8], &State), cut: usize, size: TtySize, snapshot: &[u8]) -> Found {
    let mut asked = Reference::new(size);
    asked.feed(snapshot);
    assert_eq!(asked.answers(), Vec::<String>::new(), "a snapshot asks nothing");
    let found = |whole: &State, restored: &State, when: String| {
        let what = whole.difference(restored)?;
        let seen = whole.seen() != restored.seen();
        Some(if seen { Found::Seen(when + &what) } else { Found::Hidden(when + &what) })
    };
    // At the end, at once, and after each probe.
    if let Some(found) = found(at_the_end, &state_after(size, &[snapshot, &raw[cut..]]), String::new()) {
        return found;
    }
    let (whole, restored) = (state_after(size, &[&raw[..cut]]), asked.into_state());
    if let Some(found) = found(&whole, &restored, "at once: ".to_owned()) {
        return found;
    }
    for probe in PROBES {
        let whole = state_after(size, &[&raw[..cut], b"\x18", probe]);
        let restored = state_after(size, &[snapshot, b"\x18", probe]);
        if let Some(what) = whole.difference(&restored) {
            let probe = String::from_utf8_lossy(probe);
            return Found::Hidden(format!("after the probe {probe:?}: {what}"));
        }
    }
    Found::Nothing
}

/// Cuts spread evenly, and always the first and the last.
pub(crate) fn spread(length: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(length).max(1);
    (0..=count).map(move |at| at * length / count)
}
