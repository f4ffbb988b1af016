//! Draws the cells of a screen on another terminal.
//!
//! Guarantees: preserves characters with their combining marks, colors and attributes, erased blanks, wrapped
//! lines, and the remaining half of a partly overwritten wide character.

use std::fmt::Write;

use alacritty_terminal::grid::{Dimensions, Grid};
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::vte::ansi::{Color, NamedColor};

/// A shorter run of blanks is written instead of erased.
const WORTH_ERASING: usize = 6;

/// Flags of a cell's position rather than its appearance.
const OF_PLACE: Flags = Flags::WRAPLINE
    .union(Flags::WIDE_CHAR)
    .union(Flags::WIDE_CHAR_SPACER)
    .union(Flags::LEADING_WIDE_CHAR_SPACER);

/// Blinking. The emulator does not know this flag, but copies it from the pen to the cells.
pub(super) const BLINK: Flags = Flags::from_bits_retain(1 << 15);

/// Any character that is two columns wide, for drawing halves.
const WIDE: char = '\u{3000}';

/// Output with the current pen.
#[derive(Debug, Default)]
pub(super) struct Painter {
    out: String,
    pen: Option<Cell>,
}

impl Painter {
    pub(super) fn say(&mut self, text: &str) {
        self.out.push_str(text);
    }

    pub(super) fn say_with(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.out.write_fmt(text);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out.into_bytes()
    }

    /// Moves to a row and a column, both counted from 0.
    pub(super) fn go(&mut self, row: usize, column: usize) {
        self.say_with(format_args!("\x1b[{};{}H", row + 1, column + 1));
    }

    /// Draws on a blank screen.
    pub(super) fn draw(&mut self, grid: &Grid<Cell>) {
        let mut rows = grid.screen_lines();
        if rows > 1 && wraps(grid, rows - 1) {
            self.draw_the_last_that_wraps(grid, rows);
            rows -= 1;
        }
        for row in 0..rows {
            self.draw_row(grid, row, row);
            if row + 1 < rows && wraps(grid, row) {
                self.wrap(grid, row, row);
            }
        }
    }

    /// The last row wraps into a row that has scrolled away: draws it one row higher, then scrolls.
    fn draw_the_last_that_wraps(&mut self, grid: &Grid<Cell>, rows: usize) {
        self.draw_row(grid, rows - 1, rows - 2);
        self.wrap(grid, rows - 1, rows - 2);
        self.go(rows - 2, 0);
        self.pen(&Cell::default());
        self.say("\x1b[L");
    }

    /// Draws a row of the grid on a blank row of the screen.
    fn draw_row(&mut self, grid: &Grid<Cell>, row: usize, at: usize) {
        let cells = cells(grid, row);
        self.halves(&cells, at);
        let used = cells.iter().rposition(|cell| !is_blank(cell)).map_or(0, |last| last + 1);
        let mut column = 0;
        let mut stands = false;
        while column < used {
            let cell = cells[column];
            let skipped = is_orphaned_spacer(&cells, column) || is_last_wide(&cells, column);
            let run = if skipped { 1 } else { erasable(&cells[column..used]) };
            if skipped || run >= WORTH_ERASING {
                if !skipped && cell.bg != Color::Named(NamedColor::Background) {
                    self.stand(at, column, &mut stands);
                    self.pen(&Cell { bg: cell.bg, ..Cell::default() });
                    self.say_with(format_args!("\x1b[{run}X"));
                }
                stands = false;
                column += run;
                continue;
            }
            self.stand(at, column, &mut stands);
            column += self.cell(&cells, column, at);
        }
    }

    fn stand(&mut self, row: usize, column: usize, stands: &mut bool) {
        if !*stands {
            self.go(row, column);
            *stands = true;
        }
    }

    /// Writes one cell at the cursor. Returns how many columns it took.
    fn cell(&mut self, cells: &[&Cell], column: usize, row: usize) -> usize {
        let cell = cells[column];
        self.pen(cell);
        self.character(cell);
        if !cell.flags.contains(Flags::WIDE_CHAR) {
            return 1;
        }
        if cells.get(column + 1).is_some_and(|next| next.flags.contains(Flags::WIDE_CHAR_SPACER)) {
            return 2;
        }
        // Its other half was erased.
        self.go(row, column + 1);
        self.say("\x1b[X");
        1
    }

    pub(super) fn character(&mut self, cell: &Cell) {
        self.out.push(if cell.c == '\t' { ' ' } else { cell.c });
        for c in cell.zerowidth().into_iter().flatten() {
            self.out.push(*c);
        }
    }

    /// Draws single halves of wide characters, before the rest of the row.
    fn halves(&mut self, cells: &[&Cell], at: usize) {
        let last = cells.len() - 1;
        if last > 0 && is_last_wide(cells, last) {
            self.go(at, last - 1);
            self.pen(cells[last]);
            self.character(cells[last]);
            self.go(at, last - 1);
            self.pen(&Cell::default());
            self.say("\x1b[@");
        }
        for (column, cell) in
            cells.iter().enumerate().filter(|(column, _)| is_orphaned_spacer(cells, *column))
        {
            self.go(at, column.saturating_sub(1));
            self.pen(cell);
            self.out.push(WIDE);
            self.go(at, column.saturating_sub(1));
            self.say(if column == 0 { "\x1b[P" } else { "\x1b[X" });
        }
    }

    /// Makes a row that was just drawn wrap into the next, which is drawn afterwards.
    fn wrap(&mut self, grid: &Grid<Cell>, row: usize, at: usize) {
        let cells = cells(grid, row);
        let Some(&last) = cells.last() else { return };
        let leading = last.flags.contains(Flags::LEADING_WIDE_CHAR_SPACER);
        if is_last_wide(&cells, cells.len() - 1) {
            return;
        }
        if leading {
            self.go(at, cells.len() - 1);
            self.pen(last);
        } else {
            self.stand_behind(&cells, at);
        }
        // The next row is blank again afterwards.
        self.out.push(if leading { WIDE } else { ' ' });
        self.go(at + 1, 0);
        self.pen(&Cell::default());
        self.say("\x1b[2X");
    }

    /// Puts the cursor behind the last column, where the next character wraps, by writing the last character
    /// of the row again.
    pub(super) fn stand_behind(&mut self, cells: &[&Cell], at: usize) {
        let last = cells.len().saturating_sub(1);
        let wide = last > 0
            && cells[last].flags.contains(Flags::WIDE_CHAR_SPACER)
            && cells[last - 1].flags.contains(Flags::WIDE_CHAR);
        let column = if wide { last - 1 } else { last };
        self.go(at, column);
        self.pen(cells[column]);
        self.character(cells[column]);
    }

    /// Sets the pen to the attributes of this cell.
    pub(super) fn pen(&mut self, cell: &Cell) {
        let wanted = Cell { c: ' ', flags: cell.flags.difference(OF_PLACE), ..cell.clone() };
        if self.pen.as_ref().is_some_and(|pen| same_pen(pen, &wanted)) {
            return;
        }
        if self.pen.as_ref().and_then(Cell::hyperlink) != wanted.hyperlink() {
            self.link(&wanted);
        }
        self.attributes(&wanted);
        self.pen = Some(wanted);
    }

    /// Sets the pen of this cell, starting from the default pen.
    pub(super) fn pen_from_plain(&mut self, cell: &Cell) {
        self.pen.get_or_insert_with(Cell::default);
        self.pen(cell);
    }

    fn link(&mut self, cell: &Cell) {
        match cell.hyperlink() {
            Some(link) => self.say_with(format_args!("\x1b]8;id={};{}\x1b\\", link.id(), link.uri())),
            None => self.say("\x1b]8;;\x1b\\"),
        }
    }

    fn attributes(&mut self, cell: &Cell) {
        const CODES: [(Flags, &str); 12] = [
            (Flags::BOLD, ";1"),
            (Flags::DIM, ";2"),
            (Flags::ITALIC, ";3"),
            (Flags::UNDERLINE, ";4"),
            (Flags::DOUBLE_UNDERLINE, ";4:2"),
            (Flags::UNDERCURL, ";4:3"),
            (Flags::DOTTED_UNDERLINE, ";4:4"),
            (Flags::DASHED_UNDERLINE, ";4:5"),
            (BLINK, ";5"),
            (Flags::INVERSE, ";7"),
            (Flags::HIDDEN, ";8"),
            (Flags::STRIKEOUT, ";9"),
        ];
        self.say("\x1b[0");
        for (_, code) in CODES.iter().filter(|(flag, _)| cell.flags.contains(*flag)) {
            self.say(code);
        }
        self.color(cell.fg, 30);
        self.color(cell.bg, 40);
        match cell.underline_color() {
            Some(Color::Indexed(index)) => self.say_with(format_args!(";58:5:{index}")),
            Some(Color::Spec(rgb)) => self.say_with(format_args!(";58:2::{}:{}:{}", rgb.r, rgb.g, rgb.b)),
            Some(Color::Named(_)) | None => {}
        }
        self.say("m");
    }

    /// `base` is 30 for the foreground, 40 for the background.
    fn color(&mut self, color: Color, base: usize) {
        match color {
            Color::Named(named) if (named as usize) < 8 => {
                self.say_with(format_args!(";{}", base + named as usize))
            }
            Color::Named(named) if (named as usize) < 16 => {
                self.say_with(format_args!(";{}", base + 60 + named as usize - 8));
            }
            // The default colors.
            Color::Named(_) => {}
            Color::Indexed(index) => self.say_with(format_args!(";{};5;{index}", base + 8)),
            Color::Spec(rgb) => self.say_with(format_args!(";{};2;{};{};{}", base + 8, rgb.r, rgb.g, rgb.b)),
        }
    }
}

pub(super) fn cells(grid: &Grid<Cell>, row: usize) -> Vec<&Cell> {
    let line = &grid[Line(i32::try_from(row).unwrap_or(i32::MAX))];
    (0..grid.columns()).map(|column| &line[Column(column)]).collect()
}

/// Whether the cell is erased with default colors.
fn is_blank(cell: &Cell) -> bool {
    is_erased(cell) && cell.bg == Color::Named(NamedColor::Background)
}

/// Whether the cell is as erasing leaves it, with any background.
pub(super) fn is_erased(cell: &Cell) -> bool {
    matches!(cell.c, ' ' | '\t')
        && cell.fg == Color::Named(NamedColor::Foreground)
        && cell.flags.is_empty()
        && cell.extra.is_none()
}

/// Whether it is one column wide, without combining marks.
pub(super) fn is_narrow(cell: &Cell) -> bool {
    !cell.flags.intersects(OF_PLACE) && cell.zerowidth().is_none_or(<[char]>::is_empty)
}

/// The number of cells from here that were erased with the same background.
fn erasable(cells: &[&Cell]) -> usize {
    let Some(first) = cells.first() else { return 0 };
    cells.iter().take_while(|cell| is_erased(cell) && cell.bg == first.bg).count()
}

fn wraps(grid: &Grid<Cell>, row: usize) -> bool {
    cells(grid, row).last().is_some_and(|cell| cell.flags.contains(Flags::WRAPLINE))
}

fn is_orphaned_spacer(cells: &[&Cell], column: usize) -> bool {
    cells[column].flags.contains(Flags::WIDE_CHAR_SPACER)
        && (column == 0 || !cells[column - 1].flags.contains(Flags::WIDE_CHAR))
}

/// Whether a wide character is in the last column, where it does not fit.
fn is_last_wide(cells: &[&Cell], column: usize) -> bool {
    column + 1 == cells.len() && cells[column].flags.contains(Flags::WIDE_CHAR)
}

fn same_pen(one: &Cell, other: &Cell) -> bool {
    one.fg == other.fg
        && one.bg == other.bg
        && one.flags == other.flags
        && one.hyperlink() == other.hyperlink()
        && one.underline_color() == other.underline_color()
}
