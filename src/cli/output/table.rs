//! Rows in aligned columns that fit the terminal.
//!
//! A cell is escaped when it is made, so that hostile text cannot leave its columns. On a terminal,
//! a list truncates the widest columns first, and a table of facts wraps. Without a terminal, or
//! with `-o wide`, everything is shown: an unusually long text then shifts only the rest of its own
//! row.

use std::fmt;

use unicode_width::UnicodeWidthStr;

use super::escaped;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Space between two columns.
const GAP: usize = 2;

/// Minimum width of a wrapped column, however narrow the terminal is.
const NARROWEST: usize = 6;

/// Maximum width of a column if nothing is truncated; longer texts shift their row.
const WIDEST: usize = 40;

/// Marks truncated text.
const CUT: &str = "…";

/// A text in a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    /// Already escaped.
    text: String,
    colour: Option<&'static str>,
}

impl Cell {
    /// A good state, in green.
    pub(crate) fn good(text: &str) -> Self {
        Self { colour: Some(GREEN), ..text.into() }
    }

    /// A bad state, in red.
    pub(crate) fn bad(text: &str) -> Self {
        Self { colour: Some(RED), ..text.into() }
    }

    fn width(&self) -> usize {
        self.text.width()
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self { text: escaped(text), colour: None }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[derive(Debug)]
enum Row {
    Cells(Vec<Cell>),
    /// A title above the following rows, which are indented.
    Title(Cell),
}

/// The handling of rows that are too wide for the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TooWide {
    Cut,
    /// The last column continues in the next line.
    Wrapped,
    Shown,
}

/// Rows for display.
#[derive(Debug)]
pub(crate) struct Table {
    heading: Vec<Cell>,
    rows: Vec<Row>,
    too_wide: TooWide,
}

impl Table {
    /// A list with a heading.
    pub(crate) fn of(heading: &[&str]) -> Self {
        let heading = heading.iter().map(|word| (*word).into()).collect();
        Self { heading, rows: Vec::new(), too_wide: TooWide::Cut }
    }

    /// Facts about one thing: a name and a value per row.
    pub(crate) fn of_facts() -> Self {
        Self { heading: Vec::new(), rows: Vec::new(), too_wide: TooWide::Wrapped }
    }

    /// Shows everything, however wide the terminal is.
    pub(crate) fn wide(self, wide: bool) -> Self {
        Self { too_wide: if wide { TooWide::Shown } else { self.too_wide }, ..self }
    }

    /// Adds a row.
    pub(crate) fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(Row::Cells(cells.into_iter().map(Into::into).collect()));
    }

    /// Adds a fact.
    pub(crate) fn fact(&mut self, name: &str, fact: impl Into<Cell>) {
        self.row([name.into(), fact.into()]);
    }

    /// Adds a title above the following rows.
    pub(crate) fn title(&mut self, title: &str) {
        self.rows.push(Row::Title(title.into()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines of the table, without trailing blanks, no wider than `width` unless everything is
    /// shown.
    pub(super) fn lines(&self, width: Option<usize>, colours: bool) -> Vec<String> {
        let width = width.filter(|_| self.too_wide != TooWide::Shown);
        let indent = if self.rows.iter().any(|row| matches!(row, Row::Title(_))) { GAP } else { 0 };
        let below = self.rows.iter().filter_map(|row| match row {
            Row::Cells(cells) => Some(cells),
            Row::Title(_) => None,
        });
        let mut columns: Vec<usize> = Vec::new();
        for row in below.chain([&self.heading]) {
            columns.resize(columns.len().max(row.len()), 0);
            let most = if width.is_some() { usize::MAX } else { WIDEST };
            columns
                .iter_mut()
                .zip(row)
                .for_each(|(column, cell)| *column = cell.width().min(most).max(*column));
        }
        let room = width.map(|width| width.saturating_sub(indent));
        match (room, self.too_wide) {
            (Some(room), TooWide::Cut) => narrow(&mut columns, room),
            (Some(room), _) => {
                let (last, others) =
                    columns.split_last_mut().map_or((None, &[][..]), |(last, others)| (Some(last), &*others));
                let taken: usize = others.iter().map(|column| column + GAP).sum();
                last.into_iter().for_each(|last| *last = room.saturating_sub(taken).max(NARROWEST));
            }
            (None, _) => {}
        }
        let too_wide = if room.is_some() { self.too_wide } else { TooWide::Shown };
        let drawing = Drawing { columns, indent, colours, too_wide };
        let heading = (!self.heading.is_empty()).then_some(&self.heading);
        let mut lines: Vec<String> = heading.into_iter().flat_map(|row| drawing.lines(row)).collect();
        for row in &self.rows {
            match row {
                Row::Cells(cells) => lines.extend(drawing.lines(cells)),
                Row::Title(title) => lines.push(title.to_string()),
            }
        }
        lines
    }
}

/// Shrinks the widest columns until all fit. Drops the last columns if that is not enough.
fn narrow(columns: &mut Vec<usize>, room: usize) {
    while columns.iter().map(|column| column + GAP).sum::<usize>() > room + GAP {
        match columns.iter_mut().max().filter(|column| **column > 1) {
            Some(widest) => *widest -= 1,
            None => drop(columns.pop()),
        }
    }
}

/// The layout of rows.
struct Drawing {
    columns: Vec<usize>,
    indent: usize,
    colours: bool,
    too_wide: TooWide,
}

impl Drawing {
    /// One line, or more if the last cell is wrapped.
    fn lines(&self, row: &[Cell]) -> Vec<String> {
        let mut line = " ".repeat(self.indent);
        let mut more = Vec::new();
        for (at, (cell, column)) in row.iter().zip(&self.columns).enumerate() {
            let is_last = at + 1 == self.columns.len();
            let text = if is_last && self.too_wide == TooWide::Wrapped {
                let before =
                    self.indent + self.columns[..at].iter().map(|column| column + GAP).sum::<usize>();
                let mut parts = wrapped(&cell.text, *column).into_iter();
                let first = parts.next().unwrap_or_default();
                more.extend(parts.map(|part| " ".repeat(before) + &part));
                first
            } else if self.too_wide == TooWide::Shown {
                cell.text.clone()
            } else {
                cut(&cell.text, *column)
            };
            let padding = if is_last { 0 } else { column.saturating_sub(text.width()) + GAP };
            match cell.colour.filter(|_| self.colours) {
                Some(colour) => line.extend([colour, &text, PLAIN]),
                None => line.push_str(&text),
            }
            line.extend(std::iter::repeat_n(' ', padding));
        }
        let mut lines = vec![line.trim_end().to_owned()];
        lines.append(&mut more);
        lines
    }
}

/// A text truncated to this many columns.
fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut shown = fitting(text, columns.saturating_sub(CUT.width())).to_owned();
    if columns > 0 {
        shown.push_str(CUT);
    }
    shown
}

/// The longest prefix of a text that fits into this many columns.
fn fitting(text: &str, columns: usize) -> &str {
    let fits = |end: &usize| text[..*end].width() <= columns;
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    &text[..ends.take_while(fits).last().unwrap_or_default()]
}

/// Splits a text into parts of at most this many columns, between words if possible.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.width() > columns {
        let most = fitting(rest, columns).len().max(rest.chars().next().map_or(1, char::len_utf8));
        let end = rest[..most].rfind(' ').filter(|end| *end > 0).unwrap_or(most);
        parts.push(rest[..end].trim_end().to_owned());
        rest = rest[end..].trim_start();
    }
    parts.push(rest.to_owned());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[Cell; 3]]) -> Table {
        let mut table = Table::of(&["PEER", "STATE", "WHY"]);
        rows.iter().for_each(|row| table.row(row.clone()));
        table
    }

    #[test]
    fn columns_are_aligned_whatever_is_in_them() {
        let table = table(&[
            ["é".into(), Cell::good("online"), "x".into()],
            ["漢字".into(), "a\n\x1b[1mb".into(), "y".into()],
        ]);
        let shown = table.lines(None, true).join("\n");
        assert_eq!(
            shown,
            "PEER  STATE          WHY\né     \x1b[32monline\x1b[0m         x\n漢字  a\\n\\u{1b}[1mb  y"
        );
        assert!(!table.lines(None, false).join("\n").contains('\x1b'));
    }

    #[test]
    fn a_list_is_as_wide_as_the_terminal_and_its_narrow_columns_are_whole() {
        let table = table(&[["w1".into(), Cell::bad("refused"), "because ".repeat(40).into()]]);
        for width in [10, 40, 80, 200] {
            let lines = table.lines(Some(width), false);
            assert!(lines.iter().all(|line| line.width() <= width), "{width}: {lines:?}");
        }
        assert!(table.lines(Some(40), false)[1].starts_with("w1    refused  because"));
        let wide = table.wide(true).lines(Some(40), false);
        assert!(wide[1].width() > 200);
    }

    #[test]
    fn facts_are_wrapped_and_all_there() {
        let mut table = Table::of_facts();
        table.title("here");
        table.fact("state", "one two three four five six seven");
        let lines = table.lines(Some(24), false);
        assert_eq!(lines, ["here", "  state  one two three", "         four five six", "         seven"]);
    }
}
