//! Writes the sequences that bring another terminal into the state of this one.
//!
//! They contain no queries, because the answers would be typed to the program.
//!
//! The order matters: settings that would affect the drawing (margins, insert mode, character sets) come
//! after it; settings that move the cursor (margins, origin mode) come before the cursor.

use alacritty_terminal::Term;
use alacritty_terminal::event::VoidListener;
use alacritty_terminal::grid::{Cursor, Dimensions, Grid};
use alacritty_terminal::index::Point;
use alacritty_terminal::term::cell::Cell;
use alacritty_terminal::vte::ansi::{CharsetIndex, StandardCharset};

use super::modes::{Keyboard, Modes, ORIGIN, SHOWN};
use super::render::{Painter, cells, is_erased, is_narrow};

/// Resets everything that could affect the drawing.
const PLAIN: &str = "\x1b[?2026h\x1b[?25l\x1b[?6l\x1b[?7h\x1b[4l\x1b[20l\x1b[r\x1b(B\x1b)B\x1b*B\x1b+B\x0f\x1b]8;;\x1b\\\x1b[m";

/// Writes the state of the emulator and of `modes`. The emulator is unchanged afterwards.
pub(super) fn restore(term: &mut Term<VoidListener>, modes: &Modes) -> Vec<u8> {
    let mut painter = Painter::default();
    painter.say(PLAIN);
    if modes.alternate {
        // The primary screen is visible only after leaving the alternate one.
        let alternate = term.grid().clone();
        term.swap_alt();
        primary_below(&mut painter, term.grid(), modes);
        term.swap_alt();
        *term.grid_mut() = alternate;
        painter.say("\x1b[?1049h");
        plain_sets(&mut painter);
        painter.pen(&Cell::default());
    } else {
        alternate_aside(&mut painter, term, modes);
    }
    active(&mut painter, term.grid(), modes);
    painter.finish()
}

/// Draws the primary screen below the alternate one. Switching screens saves its cursor.
fn primary_below(painter: &mut Painter, grid: &Grid<Cell>, modes: &Modes) {
    let [primary, _] = &modes.keyboards;
    keyboard(painter, primary);
    painter.say("\x1b[H\x1b[2J");
    painter.draw(grid);
    cursor(painter, grid, &grid.cursor, None);
}

/// Restores the state of the hidden alternate screen: its saved cursor and keyboard flags.
fn alternate_aside(painter: &mut Painter, term: &mut Term<VoidListener>, modes: &Modes) {
    let saved = term.grid().saved_cursor.clone();
    term.swap_alt();
    let [_, alternate] = &modes.keyboards;
    if term.grid().saved_cursor != Cursor::default() || *alternate != Keyboard::default() {
        painter.say("\x1b[?1049h");
        saved_cursor(painter, term.grid());
        keyboard(painter, alternate);
        painter.say("\x1b[?1049l");
    }
    term.swap_alt();
    term.grid_mut().saved_cursor = saved;
}

/// Restores the saved cursor. Runs before the drawing, because it may write text at that position.
fn saved_cursor(painter: &mut Painter, grid: &Grid<Cell>) {
    let saved = &grid.saved_cursor;
    let (row, column) = inside(grid, saved.point);
    painter.go(row, column);
    if saved.input_needs_wrap && column + 1 == grid.columns() {
        painter.say(" ");
    }
    pen_and_sets(painter, saved);
    painter.say("\x1b7");
    plain_sets(painter);
    painter.pen(&Cell::default());
}

fn active(painter: &mut Painter, grid: &Grid<Cell>, modes: &Modes) {
    saved_cursor(painter, grid);
    painter.say("\x1b[H\x1b[2J");
    painter.draw(grid);
    colors(painter, modes);
    titles(painter, modes);
    tabs(painter, modes);
    margins(painter, modes);
    repeat(painter, grid, modes);
    let origin = modes.is_set(ORIGIN).then(|| usize::from(modes.region.0.saturating_sub(1)));
    if origin.is_some() {
        painter.say("\x1b[?6h");
    }
    cursor(painter, grid, &grid.cursor, origin);
    if modes.shifted {
        painter.say("\x0e");
    }
    switches(painter, modes);
    let [primary, alternate] = &modes.keyboards;
    keyboard(painter, if modes.alternate { alternate } else { primary });
    painter.say(if modes.synchronized { "\x1b[?2026l\x1b[?2026h" } else { "\x1b[?2026l" });
}

fn plain_sets(painter: &mut Painter) {
    painter.say("\x1b(B\x1b)B\x1b*B\x1b+B");
}

/// Restores the cursor with its pen and character sets. `origin` is the row that counts as the first.
fn cursor(painter: &mut Painter, grid: &Grid<Cell>, cursor: &Cursor<Cell>, origin: Option<usize>) {
    let point = inside(grid, cursor.point);
    let (row, column) = point;
    let shown = row.saturating_sub(origin.unwrap_or(0));
    if cursor.input_needs_wrap && column + 1 == grid.columns() {
        painter.stand_behind(&cells(grid, row), shown);
    } else {
        painter.go(shown, column);
    }
    pen_and_sets(painter, cursor);
}

fn pen_and_sets(painter: &mut Painter, cursor: &Cursor<Cell>) {
    painter.pen(&cursor.template);
    let sets = [CharsetIndex::G0, CharsetIndex::G1, CharsetIndex::G2, CharsetIndex::G3];
    for (set, name) in sets.into_iter().zip(['(', ')', '*', '+']) {
        if cursor.charsets[set] == StandardCharset::SpecialCharacterAndLineDrawing {
            painter.say_with(format_args!("\x1b{name}0"));
        }
    }
}

fn inside(grid: &Grid<Cell>, point: Point) -> (usize, usize) {
    let row = usize::try_from(point.line.0).unwrap_or(0).min(grid.screen_lines() - 1);
    (row, point.column.0.min(grid.columns() - 1))
}

fn margins(painter: &mut Painter, modes: &Modes) {
    let (top, bottom) = modes.region;
    if (top, bottom) != (1, modes.size().rows) {
        painter.say_with(format_args!("\x1b[{top};{bottom}r"));
    }
}

/// Makes the last written character the one that REP repeats.
fn repeat(painter: &mut Painter, grid: &Grid<Cell>, modes: &Modes) {
    let Some(last) = modes.last else { return };
    for row in 0..grid.screen_lines() {
        let cells = cells(grid, row);
        let alike = |three: &[&Cell]| three.iter().all(|cell| is_erased(cell) && cell.bg == three[0].bg);
        if let Some(column) = cells.windows(3).position(alike) {
            painter.pen(&Cell { bg: cells[column].bg, ..Cell::default() });
            // The character may be zero, one or two columns wide. With zero width it would change the cell
            // before.
            painter.go(row, column + 1);
            painter.character(&Cell { c: last, ..Cell::default() });
            painter.go(row, column);
            painter.say("\x1b[3X");
            return;
        }
    }
    // No room to write it and erase it again; look for an existing one on the screen.
    for row in 0..grid.screen_lines() {
        for (column, cell) in cells(grid, row).into_iter().enumerate() {
            if cell.c == last && is_narrow(cell) && column + 1 < grid.columns() {
                painter.go(row, column);
                painter.pen(cell);
                painter.character(cell);
                return;
            }
        }
    }
}

fn tabs(painter: &mut Painter, modes: &Modes) {
    if modes.tabs_are_usual() {
        return;
    }
    painter.say("\x1b[3g");
    for (column, _) in modes.tabs.iter().enumerate().filter(|(_, tab)| **tab) {
        painter.go(0, column);
        painter.say("\x1bH");
    }
}

fn titles(painter: &mut Painter, modes: &Modes) {
    let set = |painter: &mut Painter, window: &Option<Vec<u8>>, icon: &Option<Vec<u8>>| {
        for (code, title) in [(1, icon), (2, window)] {
            if let Some(title) = title {
                painter.say_with(format_args!("\x1b]{code};{}\x1b\\", String::from_utf8_lossy(title)));
            }
        }
    };
    for aside in &modes.titles.aside {
        set(painter, &aside.window, &aside.icon);
        painter.say_with(format_args!("\x1b[22;{}t", aside.which));
    }
    set(painter, &modes.titles.window, &modes.titles.icon);
}

fn colors(painter: &mut Painter, modes: &Modes) {
    for ((command, index), color) in &modes.colors {
        let color = String::from_utf8_lossy(color);
        match command {
            4 => painter.say_with(format_args!("\x1b]4;{index};{color}\x1b\\")),
            _ => painter.say_with(format_args!("\x1b]{command};{color}\x1b\\")),
        }
    }
    if let Some(pointer) = &modes.pointer {
        painter.say_with(format_args!("\x1b]22;{}\x1b\\", String::from_utf8_lossy(pointer)));
    }
}

fn keyboard(painter: &mut Painter, keyboard: &Keyboard) {
    if keyboard.base != 0 {
        painter.say_with(format_args!("\x1b[={};1u", keyboard.base));
    }
    for flags in &keyboard.pushed {
        painter.say_with(format_args!("\x1b[>{flags}u"));
    }
}

/// Restores settings that affect only later output.
fn switches(painter: &mut Painter, modes: &Modes) {
    if modes.keypad {
        painter.say("\x1b=");
    }
    for (mode, on) in &modes.ansi {
        painter.say_with(format_args!("\x1b[{mode}{}", letter(*on)));
    }
    if !modes.private.contains_key(&SHOWN) {
        painter.say("\x1b[?25h");
    }
    if let Some(style) = modes.cursor_style {
        painter.say_with(format_args!("\x1b[{style} q"));
    }
    let mouse = modes.mouse.into_iter().chain(modes.mouse_encoding).map(|mode| (mode, true));
    let others = modes.private.iter().map(|(mode, on)| (*mode, *on)).filter(|(mode, _)| *mode != ORIGIN);
    for (mode, on) in others.chain(mouse) {
        painter.say_with(format_args!("\x1b[?{mode}{}", letter(on)));
    }
    if let Some(keys) = modes.other_keys {
        painter.say_with(format_args!("\x1b[>4;{keys}m"));
    }
}

fn letter(on: bool) -> char {
    if on { 'h' } else { 'l' }
}
