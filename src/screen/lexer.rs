//! Splits terminal output into text and complete control sequences.
//!
//! Guarantees: every byte is in exactly one piece, in order, however the bytes arrive. A piece of text never
//! ends within a character. A [`Piece::Control`] is always complete, unless it is longer than [`LONGEST`].
//! [`Lexer::held`] returns the bytes of an incomplete piece.
//!
//! The rules are those of most terminals' parsers (Paul Williams' state machine with UTF-8): ESC, CAN or SUB
//! ends a string; BEL also ends an operating system command.

/// A longer sequence, such as an image, is passed on in parts.
pub(super) const LONGEST: usize = 1 << 16;

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;

/// U+009B, in UTF-8.
const CSI_FIRST: u8 = 0xc2;
const CSI_SECOND: u8 = 0x9b;

/// A unit of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Characters, and control characters between them.
    Text(&'a [u8]),
    /// One control sequence, including control characters within it.
    Control(&'a [u8]),
    /// A part of an overlong sequence; the first part contains its beginning.
    Part(&'a [u8]),
}

/// The kind of a control string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A device control string.
    Device,
    /// An operating system command: titles, colors, the clipboard.
    System,
    /// Rarely supported kinds: privacy messages, application commands, "start of string".
    Other(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    Escape,
    EscapeIntermediate,
    Csi,
    String(Kind),
    /// ESC within a string: its end, if a backslash follows.
    StringEscape(Kind),
    /// The rest of a string that is passed on in parts.
    Rest(Kind),
    RestEscape(Kind),
}

/// The state between two calls.
#[derive(Debug)]
pub(super) struct Lexer {
    state: State,
    held: Vec<u8>,
}

impl Default for Lexer {
    fn default() -> Self {
        Self { state: State::Text, held: Vec::new() }
    }
}

impl Lexer {
    /// The bytes of an incomplete piece. Empty within an overlong sequence.
    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    /// The kind of the current overlong sequence.
    pub(super) fn overlong(&self) -> Option<Kind> {
        match self.state {
            State::Rest(kind) | State::RestEscape(kind) => Some(kind),
            _ => None,
        }
    }

    /// Processes output and passes on complete pieces.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            let used = match self.state {
                State::Text => self.text(bytes, &mut take),
                State::Rest(kind) => self.rest(kind, bytes, &mut take),
                _ => self.control(bytes, &mut take),
            };
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    fn text(&mut self, bytes: &[u8], take: &mut impl FnMut(Piece<'_>)) -> usize {
        let end = bytes.iter().position(|&byte| matches!(byte, ESC | CSI_SECOND));
        if let Some(at) = end.filter(|&at| bytes.get(at) == Some(&CSI_SECOND)) {
            return self.perhaps_8_bit_csi(bytes, at, take);
        }
        self.run(bytes, end, take)
    }

    /// A control sequence may begin with one 8-bit character instead of ESC and a bracket.
    fn perhaps_8_bit_csi(&mut self, bytes: &[u8], at: usize, take: &mut impl FnMut(Piece<'_>)) -> usize {
        let before = at.checked_sub(1).map_or(self.held.last(), |before| bytes.get(before));
        if before != Some(&CSI_FIRST) {
            // The second byte of another character, or invalid.
            return self.run(bytes.get(..=at).unwrap_or_default(), None, take);
        }
        if at == 0 {
            self.held.pop();
        }
        let text = [&self.held, bytes.get(..at.saturating_sub(1)).unwrap_or_default()].concat();
        emit_text(&text, take);
        self.held = vec![CSI_FIRST, CSI_SECOND];
        self.state = State::Csi;
        at + 1
    }

    /// Text up to its end, or as far as it has arrived.
    fn run(&mut self, bytes: &[u8], end: Option<usize>, take: &mut impl FnMut(Piece<'_>)) -> usize {
        let run = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        // Before an ESC, an incomplete character stays incomplete.
        let half = if end.is_some() { 0 } else { self.half_a_character(run) };
        let (whole, rest) = run.split_at(run.len() - half);
        if self.held.is_empty() {
            emit_text(whole, take);
        } else if half < run.len() || end.is_some() {
            let mut joined = std::mem::take(&mut self.held);
            joined.extend_from_slice(whole);
            emit_text(&joined, take);
        }
        self.held.extend_from_slice(rest);
        if end.is_some() {
            self.held.push(ESC);
            self.state = State::Escape;
        }
        run.len() + usize::from(end.is_some())
    }

    /// How many bytes at the end of a run, together with the held ones, may begin a character.
    fn half_a_character(&self, run: &[u8]) -> usize {
        let mut tail = [0; 6];
        let (from_held, from_run) = (self.held.len().min(3), run.len().min(3));
        let end = from_held + from_run;
        let held = self.held.get(self.held.len() - from_held..).unwrap_or_default();
        let run = run.get(run.len() - from_run..).unwrap_or_default();
        for (to, from) in tail.iter_mut().zip(held.iter().chain(run)) {
            *to = *from;
        }
        half_at_end(tail.get(..end).unwrap_or_default()).min(from_run)
    }

    fn control(&mut self, bytes: &[u8], take: &mut impl FnMut(Piece<'_>)) -> usize {
        let Some(&byte) = bytes.first() else { return 0 };
        match self.after(byte) {
            Step::Goes(state) => {
                self.held.push(byte);
                self.state = state;
                self.hand_on_what_is_too_long(take);
                1
            }
            Step::Ends => {
                self.held.push(byte);
                self.end(take);
                1
            }
            // The sequence ended before this byte, or was invalid: process the byte again.
            Step::Broken => {
                self.break_off(take);
                0
            }
        }
    }

    fn break_off(&mut self, take: &mut impl FnMut(Piece<'_>)) {
        match self.state {
            State::StringEscape(_) => {
                self.held.pop();
                self.end(take);
                self.held.push(ESC);
                self.state = State::Escape;
            }
            State::RestEscape(_) => self.state = State::Escape,
            _ => self.end(take),
        }
    }

    fn end(&mut self, take: &mut impl FnMut(Piece<'_>)) {
        take(Piece::Control(&self.held));
        self.held.clear();
        self.state = State::Text;
    }

    fn after(&self, byte: u8) -> Step {
        use State::{Csi, Escape, EscapeIntermediate, Rest, RestEscape, String, StringEscape, Text};
        match (self.state, byte) {
            (String(Kind::System), BEL) => Step::Ends,
            (String(kind), ESC) => Step::Goes(StringEscape(kind)),
            (StringEscape(_) | RestEscape(_), b'\\') => Step::Ends,
            (StringEscape(_) | RestEscape(_), _) => Step::Broken,
            (_, CAN | SUB) => Step::Ends,
            (String(kind), _) => Step::Goes(String(kind)),
            (Escape | EscapeIntermediate | Csi, ESC) => Step::Broken,
            (Escape, b'[') => Step::Goes(Csi),
            (Escape, b']') => Step::Goes(String(Kind::System)),
            (Escape, b'P') => Step::Goes(String(Kind::Device)),
            (Escape, b'X' | b'^' | b'_') => Step::Goes(String(Kind::Other(byte))),
            (Escape | EscapeIntermediate, 0x20..=0x2f) => Step::Goes(EscapeIntermediate),
            (Escape | EscapeIntermediate, 0x30..=0x7e) => Step::Ends,
            (Csi, 0x40..=0x7e) => Step::Ends,
            (state @ (Escape | EscapeIntermediate | Csi), _) => Step::Goes(state),
            (Text | Rest(_), _) => Step::Broken,
        }
    }

    fn hand_on_what_is_too_long(&mut self, take: &mut impl FnMut(Piece<'_>)) {
        if self.held.len() < LONGEST {
            return;
        }
        match self.state {
            State::String(kind) => {
                take(Piece::Part(&self.held));
                self.held.clear();
                self.state = State::Rest(kind);
            }
            State::StringEscape(_) => {}
            // No terminal understands a sequence of that length: give it up.
            _ => self.end(take),
        }
    }

    fn rest(&mut self, kind: Kind, bytes: &[u8], take: &mut impl FnMut(Piece<'_>)) -> usize {
        let ends = |byte: u8| match byte {
            ESC | CAN | SUB => true,
            BEL => kind == Kind::System,
            _ => false,
        };
        let Some(at) = bytes.iter().position(|&byte| ends(byte)) else {
            take(Piece::Part(bytes));
            return bytes.len();
        };
        let (part, last) = bytes.split_at(at);
        if last.first() == Some(&ESC) {
            if !part.is_empty() {
                take(Piece::Part(part));
            }
            self.held.push(ESC);
            self.state = State::RestEscape(kind);
        } else {
            take(Piece::Part(bytes.get(..=at).unwrap_or_default()));
            self.state = State::Text;
        }
        at + 1
    }
}

/// The effect of a byte on a sequence.
enum Step {
    Goes(State),
    Ends,
    Broken,
}

fn emit_text(text: &[u8], take: &mut impl FnMut(Piece<'_>)) {
    if !text.is_empty() {
        take(Piece::Text(text));
    }
}

/// The number of bytes at the end that begin an incomplete character.
pub(super) fn half_at_end(text: &[u8]) -> usize {
    (1..=3.min(text.len())).rev().find_map(|length| is_half(text.get(text.len() - length..)?)).unwrap_or(0)
}

/// The length of `bytes`, if they are an incomplete character and nothing else.
fn is_half(bytes: &[u8]) -> Option<usize> {
    let error = std::str::from_utf8(bytes).err()?;
    (error.valid_up_to() == 0 && error.error_len().is_none()).then_some(bytes.len())
}
