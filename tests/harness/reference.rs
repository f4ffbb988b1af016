//! A reference terminal that saw all output from the start, to compare with a restored one.

use std::sync::{Arc, Mutex};

use alacritty_terminal::Term;
use alacritty_terminal::event::{Event, EventListener};
use alacritty_terminal::grid::{Cursor, Dimensions, Grid, Row};
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::term::{Config, TermMode};
use alacritty_terminal::vte::ansi::{CharsetIndex, Color, CursorStyle, NamedColor, Processor, Timeout};
use peerbus_protocol::TtySize;

/// Marks on a row's last cell that say how the next row continues. They are invisible.
const OF_THE_END: Flags = Flags::WRAPLINE.union(Flags::LEADING_WIDE_CHAR_SPACER);

/// The terminal's own output and events.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<(Option<String>, Vec<String>)>>);

impl EventListener for Heard {
    fn send_event(&self, event: Event) {
        let mut heard = self.0.lock().expect("no panic elsewhere");
        match event {
            Event::Title(title) => heard.0 = Some(title),
            Event::ResetTitle => heard.0 = None,
            Event::PtyWrite(answer) => heard.1.push(answer),
            Event::ColorRequest(..) | Event::TextAreaSizeRequest(_) | Event::ClipboardLoad(..) => {
                heard.1.push(format!("{event:?}"));
            }
            _ => {}
        }
    }
}

/// Shows synchronized updates at once, so that a test can check after every byte.
#[derive(Debug, Default)]
struct Immediate;

impl Timeout for Immediate {
    fn set_timeout(&mut self, _: std::time::Duration) {}
    fn clear_timeout(&mut self) {}
    fn pending_timeout(&self) -> bool {
        false
    }
}

pub struct Size(pub TtySize);

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        usize::from(self.0.rows)
    }
    fn screen_lines(&self) -> usize {
        usize::from(self.0.rows)
    }
    fn columns(&self) -> usize {
        usize::from(self.0.cols)
    }
}

pub struct Reference {
    term: Term<Heard>,
    processor: Processor<Immediate>,
    heard: Heard,
}

/// The part of a terminal's state that is visible from outside.
#[derive(Debug, PartialEq)]
pub struct State {
    pub primary: Shown,
    pub alternate: Option<Shown>,
    mode: TermMode,
    cursor_style: CursorStyle,
    title: Option<String>,
    colors: Vec<Option<(u8, u8, u8)>>,
}

/// One of its screens.
#[derive(Debug)]
pub struct Shown {
    lines: Vec<Row<Cell>>,
    cursor: Place,
    saved: Place,
}

impl PartialEq for Shown {
    /// Compares identical rows quickly: there are too many to compare each cell's look.
    fn eq(&self, other: &Self) -> bool {
        let alike = |(one, two): (&Row<Cell>, &Row<Cell>)| one == two || looks(one) == looks(two);
        (&self.cursor, &self.saved) == (&other.cursor, &other.saved)
            && self.lines.len() == other.lines.len()
            && self.lines.iter().zip(&other.lines).all(alike)
    }
}

impl Shown {
    pub fn rows(&self) -> Vec<Vec<Look>> {
        self.lines.iter().map(looks).collect()
    }
}

/// One cell: its look, and its role in its row.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    pub text: String,
    fg: Color,
    bg: Color,
    flags: Flags,
    underline: Option<Color>,
    link: Option<(String, String)>,
}

#[derive(Debug, PartialEq)]
struct Place {
    row: i32,
    column: usize,
    behind: bool,
    pen: Look,
    sets: Vec<String>,
}

impl Reference {
    pub fn new(size: TtySize) -> Self {
        let heard = Heard::default();
        let config = Config { kitty_keyboard: true, ..Config::default() };
        Self { term: Term::new(config, &Size(size), heard.clone()), processor: Processor::new(), heard }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.processor.advance(&mut self.term, bytes);
    }

    pub fn resize(&mut self, size: TtySize) {
        self.term.resize(Size(size));
    }

    /// The answers it would have sent to the program.
    pub fn answers(&self) -> Vec<String> {
        self.heard.0.lock().expect("no panic elsewhere").1.clone()
    }

    /// The state. Leaves the alternate screen, so the terminal must not be used afterwards.
    pub fn into_state(mut self) -> State {
        let mode = *self.term.mode();
        let cursor_style = self.term.cursor_style();
        let colors = (0..269).map(|at| self.term.colors()[at].map(|rgb| (rgb.r, rgb.g, rgb.b))).collect();
        let alternate = mode.contains(TermMode::ALT_SCREEN).then(|| {
            let shown = shown(self.term.grid());
            self.term.swap_alt();
            shown
        });
        let title = self.heard.0.lock().expect("no panic elsewhere").0.clone();
        State { primary: shown(self.term.grid()), alternate, mode, cursor_style, title, colors }
    }
}

impl State {
    /// The visible part: characters with their look, and the cursor's position.
    pub fn seen(&self) -> (Vec<Vec<Look>>, i32, usize) {
        let shown = self.alternate.as_ref().unwrap_or(&self.primary);
        let visible = OF_THE_END.complement();
        let rows = shown.rows().into_iter().map(|mut row| {
            for column in 0..row.len() {
                // Half of a wide character without its other half is a blank.
                let alone = column == 0 || !row[column - 1].flags.contains(Flags::WIDE_CHAR);
                let unseen = if alone { Flags::WIDE_CHAR_SPACER } else { Flags::empty() };
                row[column].flags = row[column].flags.intersection(visible).difference(unseen);
            }
            row
        });
        (rows.collect(), shown.cursor.row, shown.cursor.column)
    }

    /// The visible part, where all unmarked blanks with the same background are equal.
    pub fn plainly_seen(&self) -> Vec<Vec<Look>> {
        let marks = Flags::INVERSE | Flags::ALL_UNDERLINES | Flags::STRIKEOUT;
        let plain = |cell: Look| match cell.text == " " && !cell.flags.intersects(marks) {
            true => Look { fg: Color::Named(NamedColor::Foreground), flags: Flags::empty(), ..cell },
            false => cell,
        };
        self.seen().0.into_iter().map(|row| row.into_iter().map(plain).collect()).collect()
    }

    /// The characters of each row, without trailing blanks.
    pub fn text(&self) -> Vec<String> {
        let shown = self.alternate.as_ref().unwrap_or(&self.primary);
        let row = |row: &Vec<Look>| {
            let cells = row.iter().filter(|cell| !cell.flags.contains(Flags::WIDE_CHAR_SPACER));
            cells.map(|cell| cell.text.as_str()).collect::<String>().trim_end().to_owned()
        };
        shown.rows().iter().map(row).collect()
    }

    /// Describes the first difference.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        let screens = [
            ("the primary screen", Some(&self.primary), Some(&other.primary)),
            ("the alternate screen", self.alternate.as_ref(), other.alternate.as_ref()),
        ];
        for (name, one, two) in screens {
            let (Some(one), Some(two)) = (one, two) else { continue };
            for (row, (left, right)) in one.rows().iter().zip(&two.rows()).enumerate() {
                if let Some(column) = (0..left.len()).find(|&column| left[column] != right[column]) {
                    let (left, right) = (&left[column], &right[column]);
                    return Some(format!("{name}, row {row}, column {column}: {left:?} and {right:?}"));
                }
            }
            if one.cursor != two.cursor {
                return Some(format!("{name}, cursor: {:?} and {:?}", one.cursor, two.cursor));
            }
            if one.saved != two.saved {
                return Some(format!("{name}, saved cursor: {:?} and {:?}", one.saved, two.saved));
            }
        }
        Some(format!(
            "mode {:?} and {:?}, cursor {:?} and {:?}, title {:?} and {:?}, colors equal: {}, alternate {} and {}",
            self.mode,
            other.mode,
            self.cursor_style,
            other.cursor_style,
            self.title,
            other.title,
            self.colors == other.colors,
            self.alternate.is_some(),
            other.alternate.is_some()
        ))
    }
}

fn shown(grid: &Grid<Cell>) -> Shown {
    let line = |row: usize| grid[Line(i32::try_from(row).expect("a row"))].clone();
    Shown {
        lines: (0..grid.screen_lines()).map(line).collect(),
        cursor: place(&grid.cursor),
        saved: place(&grid.saved_cursor),
    }
}

fn looks(line: &Row<Cell>) -> Vec<Look> {
    let last = line.len() - 1;
    let cell = |column| {
        let cell = look(&line[Column(column)]);
        // These marks mean nothing in the middle of a row.
        let means = if column == last { Flags::all() } else { OF_THE_END.complement() };
        Look { flags: cell.flags.intersection(means), ..cell }
    };
    (0..=last).map(cell).collect()
}

fn look(cell: &Cell) -> Look {
    // A tab is a blank that the cursor skipped.
    let c = if cell.c == '\t' { ' ' } else { cell.c };
    Look {
        text: std::iter::once(c).chain(cell.zerowidth().into_iter().flatten().copied()).collect(),
        fg: cell.fg,
        bg: cell.bg,
        flags: cell.flags,
        underline: cell.underline_color(),
        link: cell.hyperlink().map(|link| (link_id(link.id()), link.uri().to_owned())),
    }
}

/// A generated link id differs between terminals, so it is dropped.
fn link_id(id: &str) -> String {
    if id.ends_with("_alacritty") { String::new() } else { id.to_owned() }
}

fn place(cursor: &Cursor<Cell>) -> Place {
    let sets = [CharsetIndex::G0, CharsetIndex::G1, CharsetIndex::G2, CharsetIndex::G3];
    Place {
        row: cursor.point.line.0,
        column: cursor.point.column.0,
        behind: cursor.input_needs_wrap,
        pen: look(&cursor.template),
        sets: sets.iter().map(|set| format!("{:?}", cursor.charsets[*set])).collect(),
    }
}
