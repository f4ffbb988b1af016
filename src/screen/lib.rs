//! Models the screen of a terminal so that it can be drawn again for a later viewer.
//!
//! ```text
//!  program output ─▶ lexer ─▶ emulator (cells, cursors) ─┐
//!                           └─▶ modes (everything else) ─┴▶ restore ─▶ snapshot
//!                                                             queries: sequences that only one viewer may see
//!                                                             view: a screen in a terminal of another size
//!  the whole log ─▶ emulator ─▶ history: the output as text
//! ```
//!
//! Guarantees: after [`Screen::snapshot`] and all later output, a terminal is in the same state as if it had
//! received the output from the start. This holds at every byte, even within a character or a control
//! sequence. A snapshot contains no queries. Memory use depends only on the size of the screen.
//!
//! Limits: a snapshot does not include scrolled-off lines (the log does). Not restored: images, left and
//! right margins, overlines (the emulator has no room for them in a cell), double-height lines and protected
//! cells. While the cursor is behind the last column, also not restored: a character for REP that differs
//! from the previous one, and that the blank before it was half of a wide character.

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

/// The screen of a terminal.
pub struct Screen {
    lexer: Lexer,
    emulator: Emulator,
}

/// The emulator's state after complete lexer pieces.
struct Emulator {
    lines: usize,
    term: Term<VoidListener>,
    processor: Processor<Immediate>,
    modes: Modes,
    watch: Parser,
}

/// Disables synchronized updates: nobody looks at the screen during a redraw.
#[derive(Debug, Default)]
struct Immediate;

impl Timeout for Immediate {
    fn set_timeout(&mut self, _: Duration) {}
    fn clear_timeout(&mut self) {}
    fn pending_timeout(&self) -> bool {
        false
    }
}

/// A size in the emulator's terms.
struct Size(TtySize);

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        self.screen_lines()
    }

    fn screen_lines(&self) -> usize {
        usize::from(self.0.rows)
    }

    fn columns(&self) -> usize {
        // The emulator needs two columns for wide characters.
        usize::from(self.0.cols.max(2))
    }
}

impl Screen {
    /// A blank screen.
    #[must_use]
    pub fn new(size: TtySize) -> Self {
        Self { lexer: Lexer::default(), emulator: Emulator::new(size, 0) }
    }

    /// The current size.
    #[must_use]
    pub fn size(&self) -> TtySize {
        self.emulator.modes.size()
    }

    /// Processes output of the program.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { lexer, emulator } = self;
        lexer.feed(bytes, |piece| emulator.take(piece));
    }

    /// Applies a new size.
    pub fn resize(&mut self, size: TtySize) {
        self.emulator.guarded(size, |emulator| emulator.resize(size));
    }

    /// The sequences that reset a terminal showing this screen, so that other programs can use it: modes,
    /// margins, colors, the alternate screen. The text stays.
    #[must_use]
    pub fn leave(&self) -> Vec<u8> {
        reset::leave(&self.emulator.modes, !self.lexer.held().is_empty() || self.lexer.overlong().is_some())
    }

    /// Whether the terminal sends reports by itself, of the mouse or of focus.
    #[must_use]
    pub fn has_reports(&self) -> bool {
        let modes = &self.emulator.modes;
        modes.mouse.is_some() || [1004, 2031, 2048].into_iter().any(|mode| modes.is_set(mode))
    }

    /// The sequences that bring another terminal of this size into the same state.
    #[must_use]
    pub fn snapshot(&mut self) -> Vec<u8> {
        [&self.whole(), self.begun()].concat()
    }

    /// Like `snapshot`, without the incomplete sequence or character at the end.
    #[must_use]
    pub fn whole(&mut self) -> Vec<u8> {
        let drawn = |emulator: &mut Emulator| snapshot::restore(&mut emulator.term, &emulator.modes);
        let size = self.size();
        // After a reset there is little to draw, so this does not fail.
        self.emulator.guarded(size, drawn).unwrap_or_else(|| drawn(&mut self.emulator))
    }

    /// The incomplete sequence or character. It comes after everything else, before its remaining bytes.
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

/// The beginning of a string that terminals ignore, so that its remaining bytes are not shown.
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
    /// An emulator that keeps `lines` scrolled-off lines.
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

    /// Protects the shim from the program: if the emulator panics, it is replaced by a blank one of this
    /// size.
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
                    // The next bytes do not complete it.
                    self.write("\u{fffd}".as_bytes());
                }
            }
            Piece::Control(control) => {
                self.modes.column = u16::try_from(self.term.grid().cursor.point.column.0).unwrap_or(0);
                self.mend(control);
                self.write(control);
                if is_open_string(control) {
                    // The start of the next sequence ended it.
                    self.write(b"\x18");
                }
                self.obey();
                // Emulator bug: a backward tab must clear its flag for a cursor behind the last column.
                let last = self.term.columns() - 1;
                let cursor = &mut self.term.grid_mut().cursor;
                cursor.input_needs_wrap &= cursor.point.column.0 == last;
            }
            // Images and the like, which it could not show.
            Piece::Part(_) => {}
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.processor.advance(&mut self.term, bytes);
        self.watch.advance(&mut self.modes, bytes);
    }

    /// Corrects deviations of the emulator from real terminals.
    fn mend(&mut self, control: &[u8]) {
        // Emulator bug: it does not clear the first of two rows.
        if control == b"\x1b[1J" && self.term.grid().cursor.point.line == Line(1) {
            self.term.grid_mut().reset_region(Line(0)..Line(1));
        }
    }

    /// Applies requests that only `modes` understands.
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

/// Whether this is a string without a terminator.
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
