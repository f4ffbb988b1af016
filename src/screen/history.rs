//! Converts all output of a program to text: what a user could read by scrolling back.
//!
//! Wrapped lines are joined, and overwritten text is lost, as on a screen. The alternate screen does not
//! scroll; only its last content is text. Colors are kept on request.

use alacritty_terminal::grid::{Dimensions, Grid};
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::{Cell, Flags};

use super::Emulator;
use super::lexer::{Lexer, Piece};
use super::render::Painter;
use peerbus_protocol::TtySize;

/// Number of bytes to process at once, so that fewer lines scroll off than there is room for.
const AT_ONCE: usize = 512;

/// Room for scrolled-off lines: those of one such piece, and of a cleared screen.
const LINES: usize = 4096;

/// Reads the output of a program.
pub struct History {
    lexer: Lexer,
    emulator: Emulator,
    colored: bool,
    /// The lines of the screen that were already returned.
    told: Vec<String>,
    text: String,
}

impl History {
    /// For a terminal of this size.
    #[must_use]
    pub fn new(size: TtySize, colored: bool) -> Self {
        Self {
            lexer: Lexer::default(),
            emulator: Emulator::new(size, LINES),
            colored,
            told: Vec::new(),
            text: String::new(),
        }
    }

    /// Applies a new size.
    pub fn resize(&mut self, size: TtySize) {
        self.emulator.guarded(size, |emulator| emulator.resize(size));
        self.take_scrolled();
    }

    /// Processes output. Returns the lines that scrolled off.
    #[must_use]
    pub fn feed(&mut self, bytes: &[u8]) -> String {
        let mut lexer = std::mem::take(&mut self.lexer);
        lexer.feed(bytes, |piece| match piece {
            Piece::Text(text) => {
                let mut rest = text;
                while !rest.is_empty() {
                    // Do not split a character.
                    let most = rest.len().min(AT_ONCE);
                    let end = (most..rest.len()).find(|&at| rest[at] & 0xc0 != 0x80).unwrap_or(rest.len());
                    let (now, later) = rest.split_at(end);
                    self.emulator.take(Piece::Text(now));
                    self.take_scrolled();
                    rest = later;
                }
            }
            Piece::Control(control) => {
                if control == b"\x1bc" {
                    // The emulator is about to discard its lines.
                    self.take_screen();
                }
                self.emulator.take(Piece::Control(control));
                self.take_scrolled();
            }
            Piece::Part(part) => self.emulator.take(Piece::Part(part)),
        });
        self.lexer = lexer;
        std::mem::take(&mut self.text)
    }

    /// The lines above the cursor. If they change later, they are returned again.
    #[must_use]
    pub fn lines_so_far(&mut self) -> String {
        if !self.emulator.modes.alternate {
            let cursor = self.emulator.term.grid().cursor.point.line.0;
            for row in self.told.len()..usize::try_from(cursor).unwrap_or(0) {
                let line = self.line(self.emulator.term.grid(), i32::try_from(row).unwrap_or(0));
                self.text.push_str(&line);
                self.told.push(line);
            }
        }
        std::mem::take(&mut self.text)
    }

    /// The remaining lines on the screen.
    #[must_use]
    pub fn finish(mut self) -> String {
        let alternate = self.emulator.modes.alternate.then(|| {
            let shown = self.screen(self.emulator.term.grid());
            self.emulator.term.swap_alt();
            shown
        });
        self.take_screen();
        self.text.push_str(&alternate.unwrap_or_default().concat());
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text
    }

    /// Returns scrolled-off lines.
    fn take_scrolled(&mut self) {
        let count = self.emulator.term.grid().history_size();
        if count == 0 {
            return;
        }
        let first = -i32::try_from(count).unwrap_or(i32::MAX);
        for row in first..0 {
            let line = self.line(self.emulator.term.grid(), row);
            self.tell(line, usize::try_from(row - first).unwrap_or(0));
        }
        self.told.drain(..count.min(self.told.len()));
        self.emulator.term.grid_mut().clear_history();
    }

    fn take_screen(&mut self) {
        for (row, line) in self.screen(self.emulator.term.grid()).into_iter().enumerate() {
            self.tell(line, row);
        }
        self.told.clear();
    }

    fn tell(&mut self, line: String, row: usize) {
        if self.told.get(row) != Some(&line) {
            self.text.push_str(&line);
        }
    }

    /// The rows down to the last one with content.
    fn screen(&self, grid: &Grid<Cell>) -> Vec<String> {
        let rows = i32::try_from(grid.screen_lines()).unwrap_or(i32::MAX);
        let mut lines: Vec<String> = (0..rows).map(|row| self.line(grid, row)).collect();
        let used = lines.iter().rposition(|line| line != "\n").map_or(0, |last| last + 1);
        lines.truncate(used);
        lines
    }

    /// A row with its newline, unless it wraps into the next.
    fn line(&self, grid: &Grid<Cell>, row: i32) -> String {
        let cells: Vec<&Cell> = (0..grid.columns()).map(|column| &grid[Line(row)][Column(column)]).collect();
        let goes_on = cells.last().is_some_and(|cell| cell.flags.contains(Flags::WRAPLINE));
        let is_empty = |cell: &&Cell| matches!(cell.c, ' ' | '\t') && cell.zerowidth().is_none();
        let used = if goes_on {
            cells.len()
        } else {
            cells.iter().rposition(|cell| !is_empty(cell)).map_or(0, |last| last + 1)
        };
        let mut painter = Painter::default();
        let half = Flags::WIDE_CHAR_SPACER | Flags::LEADING_WIDE_CHAR_SPACER;
        let seen = cells.iter().take(used).filter(|cell| !cell.flags.intersects(half));
        for cell in seen {
            if self.colored {
                painter.pen_from_plain(cell);
            }
            painter.character(cell);
        }
        if self.colored {
            painter.pen_from_plain(&Cell::default());
        }
        if !goes_on {
            painter.say("\n");
        }
        String::from_utf8(painter.finish()).unwrap_or_default()
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: TtySize = TtySize { cols: 10, rows: 3 };

    fn text(bytes: &[u8]) -> String {
        let mut history = History::new(SIZE, false);
        [history.feed(bytes), history.finish()].concat()
    }

    #[test]
    fn it_is_what_can_be_read_by_scrolling_back() {
        for (written, read) in [
            ("", ""),
            ("one\r\ntwo\r\nthree\r\nfour\r\nfive", "one\ntwo\nthree\nfour\nfive\n"),
            ("a line that is longer\r\nthan the screen\r\n", "a line that is longer\nthan the screen\n"),
            ("\x1b[31mred\x1b[m and\rRED\r\n", "RED and\n"),
            ("before\r\n\x1b[?1049h\x1b[2Jvim\x1b[?1049lafter", "before\nafter\n"),
            ("before\r\n\x1b[?1049h\x1b[H\x1b[2Jvim", "before\nvim\n"),
            ("one\r\ntwo\x1b[H\x1b[2J\x1b[3Jthree", "one\ntwo\nthree\n"),
            ("one\r\n\x1bctwo", "one\ntwo\n"),
            ("\u{6f22}\u{5b57}x\x1b[6n\x1b]2;title\x07\r\n", "\u{6f22}\u{5b57}x\n"),
        ] {
            assert_eq!(text(written.as_bytes()), read, "{written:?}");
        }
        let many: String = (0..20_000).map(|n| format!("{n}\r\n")).collect();
        assert!(text(many.as_bytes()) == many.replace('\r', ""), "every line of a long one");
        let mut colored = History::new(SIZE, true);
        assert_eq!(
            [colored.feed(b"\x1b[31mred\x1b[m plain"), colored.finish()].concat(),
            "\x1b[0;31mred\x1b[0m plain\n"
        );
    }

    #[test]
    fn lines_are_told_when_they_are_done_and_again_when_they_change() {
        let mut history = History::new(SIZE, false);
        let mut told = |bytes: &[u8]| {
            let scrolled = history.feed(bytes);
            [scrolled, history.lines_so_far()].concat()
        };
        assert_eq!(told(b"one\r\ntw"), "one\n");
        assert_eq!(told(b"o\r\nthree\r\nfour"), "two\nthree\n");
        assert_eq!(told(b"\x1b[A\rTHREE\x1b[B\r\nfive\r\nsix\r\n"), "THREE\nfour\nfive\nsix\n");
        assert_eq!(history.finish(), "");
    }
}
