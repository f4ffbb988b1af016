//! Shows a screen in a terminal of another size: a part of a larger screen that contains the cursor, or a
//! smaller screen with a border.
//!
//! Draws on the alternate screen, so leaving restores the previous content, and draws only changes. Of the
//! modes it applies only those that affect how the terminal sends keys.

use std::fmt::Write;

use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::term::cell::{Cell, Flags};

use super::Screen;
use super::modes::SHOWN;
use super::render::{Painter, cells};
use peerbus_protocol::TtySize;

/// The drawn content and its position.
#[derive(Debug, Default)]
pub struct View {
    begun: bool,
    area: Option<TtySize>,
    /// The first visible row and column.
    top: usize,
    left: usize,
    drawn: Vec<String>,
    keys: String,
}

impl View {
    /// The sequences that show the current screen in a terminal of size `area`, with a hint in a row of its
    /// own.
    pub fn paint(&mut self, screen: &Screen, area: TtySize, hint: &str) -> Vec<u8> {
        let mut out = "\x1b[?2026h\x1b[?25l".to_owned();
        if !std::mem::replace(&mut self.begun, true) {
            out.push_str("\x1b[?1049h\x1b[?7l\x1b[m\x1b[2J");
        }
        if self.area.replace(area) != Some(area) {
            out.push_str("\x1b[m\x1b[2J");
            self.drawn.clear();
        }
        let emulator = &screen.emulator;
        let grid = emulator.term.grid();
        let (width, height) = (usize::from(area.cols), usize::from(area.rows));
        let (columns, rows) = (grid.columns(), grid.screen_lines());
        let seen_rows = if height > rows { rows } else { height.saturating_sub(1).max(1) };
        let seen_columns = width.min(columns);
        let cursor = &grid.cursor.point;
        let row = usize::try_from(cursor.line.0).unwrap_or(0).min(rows - 1);
        let column = cursor.column.0.min(columns - 1);
        self.top = in_sight(self.top, row, seen_rows, rows);
        self.left = in_sight(self.left, column, seen_columns, columns);

        let mut lines: Vec<String> = (self.top..self.top + seen_rows)
            .map(|row| part(&cells(grid, row), self.left, seen_columns, width > columns))
            .collect();
        if height > seen_rows {
            lines.push(hint_row(hint, width, height > rows));
        }
        for (at, line) in lines.iter().enumerate() {
            if self.drawn.get(at) != Some(line) {
                // Writing to a string does not fail.
                let _ = write!(out, "\x1b[{};1H{line}\x1b[m\x1b[K", at + 1);
            }
        }
        self.drawn = lines;
        self.tell_keys(screen, &mut out);
        let _ = write!(out, "\x1b[{};{}H", row - self.top + 1, column - self.left + 1);
        if emulator.modes.private.get(&SHOWN).copied().unwrap_or(true) {
            out.push_str("\x1b[?25h");
        }
        out.push_str("\x1b[?2026l");
        out.into_bytes()
    }

    /// Makes the terminal send keys as the program requested.
    fn tell_keys(&mut self, screen: &Screen, out: &mut String) {
        let modes = &screen.emulator.modes;
        let mut keys = String::new();
        for mode in [1, 2004] {
            let _ = write!(keys, "\x1b[?{mode}{}", if modes.is_set(mode) { 'h' } else { 'l' });
        }
        keys.push_str(if modes.keypad { "\x1b=" } else { "\x1b>" });
        let _ = match modes.other_keys {
            Some(value) => write!(keys, "\x1b[>4;{value}m"),
            None => write!(keys, "\x1b[>4m"),
        };
        let [primary, alternate] = &modes.keyboards;
        let keyboard = if modes.alternate { alternate } else { primary };
        let flags = keyboard.pushed.last().copied().unwrap_or(keyboard.base);
        let _ = write!(keys, "\x1b[={flags};1u");
        if keys != self.keys {
            out.push_str(&keys);
            self.keys = keys;
        }
    }

    /// The sequences that restore the terminal.
    #[must_use]
    pub fn end(self) -> Vec<u8> {
        if self.begun {
            b"\x1b[?2026l\x1b[m\x1b[?1l\x1b[?2004l\x1b>\x1b[>4m\x1b[=0;1u\x1b[?7h\x1b[?25h\x1b[?1049l"
                .to_vec()
        } else {
            Vec::new()
        }
    }
}

/// The first of `seen` visible positions out of `all`, so that `wanted` is visible. Unchanged if it already
/// is.
fn in_sight(first: usize, wanted: usize, seen: usize, all: usize) -> usize {
    first.clamp((wanted + 1).saturating_sub(seen), wanted).min(all - seen)
}

/// The visible part of a row.
fn part(row: &[&Cell], left: usize, columns: usize, border: bool) -> String {
    let mut painter = Painter::default();
    let seen = row.iter().enumerate().skip(left).take(columns);
    for (column, cell) in seen {
        let half = cell.flags.contains(Flags::WIDE_CHAR_SPACER);
        if half && column > left {
            continue;
        }
        painter.pen(cell);
        let is_cut = cell.flags.contains(Flags::WIDE_CHAR) && column + 1 == left + columns;
        if half || is_cut { painter.say(" ") } else { painter.character(cell) }
    }
    painter.pen(&Cell::default());
    if border {
        painter.say("\u{2502}");
    }
    let line = String::from_utf8(painter.finish()).unwrap_or_default();
    // Trailing blanks need not be drawn.
    if border { line } else { line.trim_end_matches(' ').to_owned() }
}

fn hint_row(hint: &str, width: usize, is_border: bool) -> String {
    let hint: String = format!(" {hint} ").chars().take(width).collect();
    if is_border {
        let dashes = "\u{2500}".repeat(width.saturating_sub(hint.chars().count()));
        return format!("{hint}{dashes}");
    }
    format!("\x1b[7m{hint:width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(screen: &Screen, area: TtySize) -> (String, Vec<String>) {
        let mut view = View::default();
        let mut other = Screen::new(area);
        other.feed(&view.paint(screen, area, "hint"));
        let grid = other.emulator.term.grid();
        let text = |row| cells(grid, row).iter().map(|cell| cell.c).collect::<String>().trim_end().to_owned();
        let cursor = grid.cursor.point;
        let rows = (0..usize::from(area.rows)).map(text).collect();
        (format!("{},{}", cursor.line.0, cursor.column.0), rows)
    }

    #[test]
    fn a_smaller_terminal_sees_the_part_with_the_cursor_and_a_larger_one_the_border() {
        let mut screen = Screen::new(TtySize { cols: 20, rows: 6 });
        screen.feed("0\r\n1\r\n2\r\n3\r\n4\r\n0123456789abcde\u{6f22}".as_bytes());
        let (cursor, rows) = seen(&screen, TtySize { cols: 10, rows: 4 });
        assert_eq!(
            (cursor.as_str(), rows),
            ("2,9", vec!["".into(), "".into(), "89abcde\u{6f22}".into(), " hint".into()])
        );
        let (cursor, rows) = seen(&screen, TtySize { cols: 24, rows: 8 });
        assert_eq!(cursor, "5,17");
        assert_eq!(rows[0], "0                   \u{2502}");
        assert!(rows[6].starts_with(" hint \u{2500}") && rows[7].is_empty(), "{rows:?}");
        screen.feed(b"\x1b[2;1H");
        let (cursor, rows) = seen(&screen, TtySize { cols: 10, rows: 4 });
        assert_eq!((cursor.as_str(), rows[..3].concat()), ("1,0", "012".to_owned()));
    }

    #[test]
    fn only_what_has_changed_is_drawn() {
        let mut screen = Screen::new(TtySize { cols: 20, rows: 6 });
        let (mut view, area) = (View::default(), TtySize { cols: 10, rows: 4 });
        view.paint(&screen, area, "hint");
        screen.feed(b"x");
        let drawn = String::from_utf8(view.paint(&screen, area, "hint")).expect("text");
        assert!(
            drawn.contains("\x1b[1;1H") && !drawn.contains("hint") && !drawn.contains("\x1b[2;1H"),
            "{drawn:?}"
        );
    }
}
