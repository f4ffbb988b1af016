//! What a terminal shows, kept so that it can be shown again: to somebody who comes later.
//!
//! ```text
//!  what the program writes ─▶ lexer ─▶ emulator (cells, cursors) ─┐
//!                                  └─▶ modes (all the rest)      ─┴▶ restore ─▶ snapshot
//!                                                                    queries: what only one may hear
//!                                                                    view: a part of it, or more than it
//!  the whole log ─▶ emulator ─▶ history: what it comes to, as text
//! ```
//!
//! Guarantees: [`Screen::snapshot`], written to a terminal, followed by whatever the program writes
//! from then on, leaves that terminal as if it had been there from the start. That holds at every
//! byte, within a character or a control sequence too. A snapshot asks the terminal nothing. What is
//! kept is bounded by the size of the screen.
//!
//! Limits: what scrolled off is not in a snapshot (it is in the log). Not restored: pictures, left and
//! right margins, lines above characters (the emulator has no room for that in a cell), lines of double height, protected cells, and, while the cursor stands behind the last
//! column, which character is to be repeated if it is not the one before it, and that the blank before it
//! was half of a wide character.

mod history;
mod lexer;
mod modes;
mod queries;
mod render;
mod reset;
mod snapshot;
mod view;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use alacritty_terminal::Term;
use alacritty_terminal::event::VoidListener;
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::Config;
use alacritty_terminal::vte::Parser;
use alacritty_terminal::vte::ansi::{Processor, Timeout};

use lexer::{Kind, Lexer, Piece};
use modes::Modes;
use peerbus_protocol::TtySize;

pub use history::History;
pub use queries::QueryFilter;
pub use view::View;

/// What a terminal shows.
pub struct Screen {
    lexer: Lexer,
    emulator: Emulator,
}

/// The state after whole pieces.
struct Emulator {
    lines: usize,
    term: Term<VoidListener>,
    processor: Processor<Immediate>,
    modes: Modes,
    watch: Parser,
}

/// Shows redraws as they come: nobody looks while they do.
#[derive(Debug, Default)]
struct Immediate;

impl Timeout for Immediate {
    fn set_timeout(&mut self, _: Duration) {}
    fn clear_timeout(&mut self) {}
    fn pending_timeout(&self) -> bool {
        false
    }
}

/// A size in the words of the emulator.
struct Size(TtySize);

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        self.screen_lines()
    }

    fn screen_lines(&self) -> usize {
        usize::from(self.0.rows)
    }

    fn columns(&self) -> usize {
        // The emulator cannot do with fewer: it has characters two columns wide.
        usize::from(self.0.cols.max(2))
    }
}

impl Screen {
    /// A blank screen.
    #[must_use]
    pub fn new(size: TtySize) -> Self {
        Self { lexer: Lexer::default(), emulator: Emulator::new(size, 0) }
    }

    /// The size it has.
    #[must_use]
    pub fn size(&self) -> TtySize {
        self.emulator.modes.size()
    }

    /// Shows what the program writes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { lexer, emulator } = self;
        lexer.feed(bytes, |piece| emulator.take(piece));
    }

    /// Takes another size, as the terminal did.
    pub fn resize(&mut self, size: TtySize) {
        self.emulator.guarded(size, |emulator| emulator.resize(size));
    }

    /// What puts away whatever a program has made of a terminal that shows this screen, so that others
    /// can go on in it: modes, margins, colors, the alternate screen. What it shows stays.
    #[must_use]
    pub fn leave(&self) -> Vec<u8> {
        reset::leave(&self.emulator.modes, !self.lexer.held().is_empty() || self.lexer.overlong().is_some())
    }

    /// Whether it has the terminal say things by itself: what the mouse does, and who looks at it.
    #[must_use]
    pub fn has_reports(&self) -> bool {
        let modes = &self.emulator.modes;
        modes.mouse.is_some() || [1004, 2031, 2048].into_iter().any(|mode| modes.is_set(mode))
    }

    /// What brings another terminal of this size into the same state.
    #[must_use]
    pub fn snapshot(&mut self) -> Vec<u8> {
        [&self.whole(), self.begun()].concat()
    }

    /// The same without the sequence or character that has begun.
    #[must_use]
    pub fn whole(&mut self) -> Vec<u8> {
        let drawn = |emulator: &mut Emulator| snapshot::restore(&mut emulator.term, &emulator.modes);
        let size = self.size();
        // Of one that has begun anew there is little to draw, which does not fail.
        self.emulator.guarded(size, drawn).unwrap_or_else(|| drawn(&mut self.emulator))
    }

    /// The sequence or character that has begun: it comes after everything else, and its rest is to follow.
    #[must_use]
    pub fn begun(&self) -> &[u8] {
        match self.lexer.overlong() {
            Some(kind) => beginning_of(kind),
            None => self.lexer.held(),
        }
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("size", &self.size()).finish_non_exhaustive()
    }
}

/// The beginning of a string that terminals ignore: its rest is to follow, and must not be shown.
fn beginning_of(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::System => b"\x1b]9999;",
        Kind::Device => b"\x1bP9999z",
        Kind::Other(b'X') => b"\x1bX",
        Kind::Other(b'^') => b"\x1b^",
        Kind::Other(_) => b"\x1b_z",
    }
}

impl Emulator {
    /// With so many lines that scrolled off.
    fn new(size: TtySize, lines: usize) -> Self {
        let config = Config { scrolling_history: lines, ..Config::default() };
        Self {
            lines,
            term: Term::new(config, &Size(size), VoidListener),
            processor: Processor::new(),
            modes: Modes::new(size),
            watch: Parser::new(),
        }
    }

    /// A program must not be able to end its shim: where the emulator fails, it begins anew, in this size.
    fn guarded<T>(&mut self, size: TtySize, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(|| work(self))).ok();
        if done.is_none() {
            tracing::error!("the emulator failed; the screen begins anew");
            *self = Self::new(size, self.lines);
        }
        done
    }

    fn take(&mut self, piece: Piece<'_>) {
        self.guarded(self.modes.size(), |emulator| emulator.show(piece));
    }

    fn show(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Text(text) => {
                let (whole, half) = text.split_at(text.len() - lexer::half_at_end(text));
                self.write(whole);
                if !half.is_empty() {
                    // What follows does not complete it any more.
                    self.write("\u{fffd}".as_bytes());
                }
            }
            Piece::Control(control) => {
                self.modes.column = u16::try_from(self.term.grid().cursor.point.column.0).unwrap_or(0);
                self.mend(control);
                self.write(control);
                if is_open_string(control) {
                    // It ended with the beginning of the next sequence.
                    self.write(b"\x18");
                }
                self.obey();
                // It forgets that whoever goes back a tab is not behind the last column any more.
                let last = self.term.columns() - 1;
                let cursor = &mut self.term.grid_mut().cursor;
                cursor.input_needs_wrap &= cursor.point.column.0 == last;
            }
            // Pictures and the like, which it could not show.
            Piece::Part(_) => {}
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.processor.advance(&mut self.term, bytes);
        self.watch.advance(&mut self.modes, bytes);
    }

    /// What the emulator does not do as terminals do.
    fn mend(&mut self, control: &[u8]) {
        // It leaves the first of two rows that are to be cleared.
        if control == b"\x1b[1J" && self.term.grid().cursor.point.line == Line(1) {
            self.term.grid_mut().reset_region(Line(0)..Line(1));
        }
    }

    /// Does what the program asked for in words that only the modes understand.
    fn obey(&mut self) {
        if let Some(blinks) = self.modes.blink.take() {
            self.term.grid_mut().cursor.template.flags.set(render::BLINK, blinks);
        }
        let words = self.modes.take_for_emulator();
        if !words.is_empty() {
            self.processor.advance(&mut self.term, &words);
        }
        if std::mem::take(&mut self.modes.soft_reset) {
            let point = self.term.grid().cursor.point;
            let words =
                b"\x1b[4l\x1b[?6l\x1b[?7h\x1b[?1l\x1b>\x1b[?25h\x1b(B\x1b)B\x1b*B\x1b+B\x0f\x1b[r\x1b[m\x1b7";
            self.processor.advance(&mut self.term, words);
            self.term.grid_mut().cursor.point = point;
        }
    }

    fn resize(&mut self, size: TtySize) {
        self.modes.resize(size);
        self.term.resize(Size(size));
        let last = Column(self.term.columns() - 1);
        for cursor in [0, 1] {
            let grid = self.term.grid_mut();
            let cursor = if cursor == 0 { &mut grid.cursor } else { &mut grid.saved_cursor };
            cursor.point.column = cursor.point.column.min(last);
        }
    }
}

/// A string that has no end of its own.
fn is_open_string(control: &[u8]) -> bool {
    let string = matches!(control, [0x1b, b']' | b'P' | b'X' | b'^' | b'_', ..]);
    string && !control.ends_with(b"\x1b\\") && !matches!(control.last(), Some(0x07 | 0x18 | 0x1a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blinks_is_restored_so() {
        let mut screen = Screen::new(TtySize { cols: 20, rows: 3 });
        screen.feed(b"\x1b[5mblinks\x1b[25m \x1b[38;5;5mnot\x1b[1;5m bold");
        let drawn = String::from_utf8(screen.snapshot()).expect("text");
        assert!(drawn.contains("\x1b[0;5mblinks\x1b[0m "), "{drawn:?}");
        assert!(drawn.contains("\x1b[0;38;5;5mnot\x1b[0;1;5;38;5;5m bold"), "{drawn:?}");
        // The pen, too.
        let pens = drawn.matches("\x1b[0;1;5;38;5;5m").count();
        assert!(pens >= 1 && !drawn.ends_with("\x1b[0m"), "{drawn:?}");
    }

    #[test]
    fn where_the_emulator_fails_the_screen_begins_anew() {
        let (small, large) = (TtySize { cols: 10, rows: 3 }, TtySize { cols: 20, rows: 5 });
        let mut screen = Screen::new(small);
        screen.feed(b"before");
        assert_eq!(screen.emulator.guarded(large, |_| -> () { panic!("as an emulator may") }), None);
        assert_eq!(screen.size(), large);
        screen.feed(b"after");
        let drawn = String::from_utf8(screen.snapshot()).expect("text");
        assert!(drawn.contains("after") && !drawn.contains("before"), "{drawn:?}");
    }
}
