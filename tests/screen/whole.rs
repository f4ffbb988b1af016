//! Whether a restored terminal is the same as one that was there from the start.

use peerbus::keeper::screen::Screen;
use peerbus::protocol::TtySize;

use crate::reference::Reference;

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
    let mut fed = 0;
    for cut in cuts {
        screen.feed(&raw[fed..cut]);
        fed = cut;
        let snapshot = screen.snapshot();
        tally.bytes += snapshot.len();
        tally.cuts += 1;
        match difference(raw, cut, size, &snapshot) {
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

fn difference(raw: &[u8], cut: usize, size: TtySize, snapshot: &[u8]) -> Found {
    let both = |rest: &[u8]| {
        let [mut whole, mut restored] = [Reference::new(size), Reference::new(size)];
        whole.feed(&[&raw[..cut], rest].concat());
        restored.feed(&[snapshot, rest].concat());
        (whole.into_state(), restored.into_state())
    };
    let mut asked = Reference::new(size);
    asked.feed(snapshot);
    assert_eq!(asked.answers(), Vec::<String>::new(), "a snapshot asks nothing");
    // At the end, at once, and after each probe.
    let (whole, restored) = both(&raw[cut..]);
    if let Some(what) = whole.difference(&restored) {
        let seen = whole.seen() != restored.seen();
        return if seen { Found::Seen(what) } else { Found::Hidden(what) };
    }
    let (whole, restored) = both(b"");
    if whole.seen() != restored.seen() {
        return Found::Seen(format!("at once: {:?}", whole.difference(&restored)));
    }
    if let Some(what) = whole.difference(&restored) {
        return Found::Hidden(format!("at once: {what}"));
    }
    for probe in PROBES {
        let (whole, restored) = both(&[b"\x18", probe].concat());
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
