//! The state of a terminal besides its text: modes, margins, tabs, titles, colors, keyboard flags.
//!
//! The emulator hides part of this state and ignores much that viewers' terminals support. So this module
//! records it as requested, whether or not the emulator understands it.
//!
//! Guarantees: the state is bounded, whatever a program sends.

mod dispatch;
mod titles;

use std::collections::BTreeMap;

pub(super) use titles::Titles;

use peerbus_protocol::TtySize;

/// The default distance of tab stops.
const TABS_EVERY: u16 = 8;

/// More private modes than any program sets.
const MOST_MODES: usize = 128;

/// The usual depth of the stack of keyboard flags in terminals.
const MOST_KEYBOARDS: usize = 16;

/// Mouse reporting modes; the last one set applies.
const MOUSE: [u16; 5] = [9, 1000, 1001, 1002, 1003];

/// Mouse encodings; the last one set applies.
const MOUSE_ENCODING: [u16; 4] = [1005, 1006, 1015, 1016];

/// Synchronized update; kept apart because it must be restored last.
const SYNCHRONIZED: u16 = 2026;

/// Modes that are actions rather than a state: column width, alternate screen, saved cursor.
const ACTIONS: [u16; 5] = [3, 47, 1047, 1048, 1049];

pub(super) const ORIGIN: u16 = 6;
pub(super) const WRAP: u16 = 7;
const AUTOREPEAT: u16 = 8;

/// Whether the cursor is shown.
pub(super) const SHOWN: u16 = 25;

const ALTERNATE_SCROLL: u16 = 1007;

/// The keyboard flags of one screen (kitty protocol).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Keyboard {
    pub(super) base: u16,
    pub(super) pushed: Vec<u16>,
}

/// The complete state.
#[derive(Debug, Clone)]
pub(super) struct Modes {
    size: TtySize,
    /// Private modes that were set or reset.
    pub(super) private: BTreeMap<u16, bool>,
    saved_private: BTreeMap<u16, bool>,
    pub(super) ansi: BTreeMap<u16, bool>,
    pub(super) mouse: Option<u16>,
    pub(super) mouse_encoding: Option<u16>,
    pub(super) synchronized: bool,
    pub(super) keypad: bool,
    pub(super) cursor_style: Option<u16>,
    /// Which character set is active: G0 or G1.
    pub(super) shifted: bool,
    /// First and last row, counted from 1.
    pub(super) region: (u16, u16),
    pub(super) tabs: Vec<bool>,
    pub(super) keyboards: [Keyboard; 2],
    pub(super) other_keys: Option<u16>,
    pub(super) titles: Titles,
    pub(super) colors: BTreeMap<(u16, u16), Vec<u8>>,
    pub(super) pointer: Option<Vec<u8>>,
    /// The last character shown, which REP repeats.
    pub(super) last: Option<char>,
    pub(super) alternate: bool,
    /// The emulator's cursor column, for tabs.
    pub(super) column: u16,
    /// Replacement sequences for the emulator.
    for_emulator: Vec<u8>,
    /// Whether the program requested a soft reset.
    pub(super) soft_reset: bool,
    /// The requested blinking, which the emulator does not know.
    pub(super) blink: Option<bool>,
}

impl Modes {
    pub(super) fn new(size: TtySize) -> Self {
        Self {
            size,
            private: BTreeMap::new(),
            saved_private: BTreeMap::new(),
            ansi: BTreeMap::new(),
            mouse: None,
            mouse_encoding: None,
            synchronized: false,
            keypad: false,
            cursor_style: None,
            shifted: false,
            region: (1, size.rows),
            tabs: first_tabs(size.cols),
            keyboards: Default::default(),
            other_keys: None,
            titles: Titles::default(),
            colors: BTreeMap::new(),
            pointer: None,
            last: None,
            alternate: false,
            column: 0,
            for_emulator: Vec::new(),
            soft_reset: false,
            blink: None,
        }
    }

    pub(super) fn size(&self) -> TtySize {
        self.size
    }

    pub(super) fn resize(&mut self, size: TtySize) {
        if size == self.size {
            return;
        }
        let columns = u16::try_from(self.tabs.len()).unwrap_or(u16::MAX);
        self.tabs.truncate(usize::from(size.cols));
        self.tabs.extend((columns..size.cols).map(|column| column % TABS_EVERY == 0));
        self.region = (1, size.rows);
        self.size = size;
    }

    pub(super) fn tabs_are_usual(&self) -> bool {
        self.tabs == first_tabs(self.size.cols)
    }

    /// Takes the sequences that the emulator needs instead of the program's.
    pub(super) fn take_for_emulator(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.for_emulator)
    }

    pub(super) fn is_set(&self, mode: u16) -> bool {
        self.private.get(&mode).copied().unwrap_or(mode == WRAP)
    }

    /// The private modes that differ from the default, with their values.
    pub(super) fn unusual_private(&self) -> impl Iterator<Item = (u16, bool)> + '_ {
        let usual = |mode: u16| matches!(mode, WRAP | AUTOREPEAT | SHOWN | ALTERNATE_SCROLL);
        let unusual = self.private.iter().filter(move |(mode, on)| **on != usual(**mode));
        unusual.map(move |(mode, _)| (*mode, usual(*mode)))
    }

    fn keyboard(&mut self) -> &mut Keyboard {
        let [primary, alternate] = &mut self.keyboards;
        if self.alternate { alternate } else { primary }
    }

    fn set_private(&mut self, mode: u16, on: bool) {
        let exclusive = |current: &mut Option<u16>| match on {
            true => *current = Some(mode),
            false if *current == Some(mode) => *current = None,
            false => {}
        };
        if MOUSE.contains(&mode) {
            exclusive(&mut self.mouse);
        } else if MOUSE_ENCODING.contains(&mode) {
            exclusive(&mut self.mouse_encoding);
        } else if mode == SYNCHRONIZED {
            self.synchronized = on;
        } else if ACTIONS.contains(&mode) {
            self.act(mode, on);
        } else if self.private.len() < MOST_MODES || self.private.contains_key(&mode) {
            self.private.insert(mode, on);
        }
    }

    fn act(&mut self, mode: u16, on: bool) {
        match mode {
            // The emulator handles the rest: it resets the margins and clears the screen.
            3 => self.region = (1, self.size.rows),
            1048 => self.for_emulator.extend_from_slice(if on { b"\x1b7" } else { b"\x1b8" }),
            47 | 1047 if on != self.alternate => {
                self.for_emulator.extend_from_slice(if on { b"\x1b[?1049h" } else { b"\x1b[?1049l" });
                self.alternate = on;
            }
            1049 => self.alternate = on,
            _ => {}
        }
    }

    fn save_private(&mut self, mode: u16) {
        if self.saved_private.len() < MOST_MODES {
            let on = match mode {
                mode if MOUSE.contains(&mode) => self.mouse == Some(mode),
                mode if MOUSE_ENCODING.contains(&mode) => self.mouse_encoding == Some(mode),
                47 | 1047 | 1049 => self.alternate,
                _ => self.is_set(mode),
            };
            self.saved_private.insert(mode, on);
        }
    }

    fn restore_private(&mut self, mode: u16) {
        let Some(&on) = self.saved_private.get(&mode) else { return };
        self.set_private(mode, on);
        let letter = if on { 'h' } else { 'l' };
        self.for_emulator.extend_from_slice(format!("\x1b[?{mode}{letter}").as_bytes());
    }

    /// A full reset. As in real terminals, colors and titles stay.
    fn reset(&mut self) {
        let colors = std::mem::take(&mut self.colors);
        let titles = Titles { aside: Vec::new(), ..std::mem::take(&mut self.titles) };
        *self = Self { colors, titles, last: self.last, ..Self::new(self.size) };
    }

    /// Resets only the modes that could disturb the next program.
    fn reset_softly(&mut self) {
        self.private.retain(|&mode, _| !matches!(mode, 1 | ORIGIN | WRAP | 25));
        self.ansi.remove(&4);
        self.keypad = false;
        self.shifted = false;
        self.region = (1, self.size.rows);
        self.soft_reset = true;
    }

    fn set_region(&mut self, top: u16, bottom: u16) {
        if top < bottom {
            let rows = self.size.rows;
            self.region = (top.min(rows), bottom.min(rows));
        }
    }
}

fn first_tabs(columns: u16) -> Vec<bool> {
    (0..columns).map(|column| column % TABS_EVERY == 0).collect()
}
