//! Splits terminal input into keys, pastes and reports of the terminal itself.
//!
//! The same key arrives in one of three encodings: a plain byte or character, xterm's
//! `modifyOtherKeys` (`CSI 27;5;93~`), or kitty's protocol (`CSI 93;5u`). Each decodes to the byte
//! or character of the plain encoding. Focus events, mouse events and answers to queries are
//! [`Token::Report`]s.
//!
//! Guarantees: every byte is in exactly one piece, in order. [`Decoder::flush`] takes out an
//! incomplete piece, since an Escape key looks like the beginning of a sequence. A late rest of
//! such a sequence is still recognized.

/// Longest control sequence in bytes; a longer one is not treated as one.
const SEQUENCE_MOST: usize = 256;

/// A string may be a whole clipboard, so it is handed on in parts of this many bytes.
const STRING_PART: usize = 4096;

const ESC: u8 = 0x1b;

/// The kind of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// A pressed key: the character it types, if it is one character.
    Key(Option<char>),
    /// A released key, or a modifier such as Shift.
    Silent,
    /// A report that the terminal sends by itself.
    Report,
    /// A paste's start, content or end.
    Paste,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// In a multi-byte character with this many bytes missing.
    Character(u8),
    Escape,
    /// After an Escape that was already flushed as a key.
    EscapeKey,
    Csi,
    /// A function key; one more letter follows.
    Ss3,
    /// A legacy mouse report with this many bytes missing.
    Mouse(u8),
    /// An operating system command or a similar string, up to its terminator.
    String,
    StringEscape,
    Paste,
}

/// Splits the input.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    state: State,
    /// The bytes of the incomplete piece.
    begun: Vec<u8>,
    /// How many of those bytes were flushed.
    flushed: usize,
}

impl Decoder {
    /// Whether there is an incomplete piece that was not flushed.
    pub(super) fn is_within(&self) -> bool {
        self.begun.len() > self.flushed
    }

    /// Takes out the incomplete piece after a timeout; returns its token if it is a key.
    pub(super) fn flush(&mut self) -> (Option<Token>, Vec<u8>) {
        let bytes = self.begun.split_off(self.flushed);
        self.begun.extend_from_slice(&bytes);
        self.flushed = self.begun.len();
        match (self.state, &self.begun[..]) {
            (State::Escape, _) => {
                self.state = State::EscapeKey;
                (Some(Token::Key(Some('\x1b'))), bytes)
            }
            // Alt with a bracket or a letter.
            (State::String | State::Ss3, [ESC, _]) => {
                self.clear();
                (Some(Token::Key(None)), bytes)
            }
            _ => (None, bytes),
        }
    }

    /// Handles the next byte.
    pub(super) fn feed(&mut self, byte: u8, take: &mut impl FnMut(Token, &[u8])) {
        match self.state {
            State::Ground => self.ground(byte, take),
            State::Character(missing) => match byte {
                0x80..=0xbf => self.goes_on(byte, State::Character(missing - 1), missing == 1, take),
                _ => self.again(byte, Token::Key(None), take),
            },
            State::Escape => self.escape(byte, take),
            State::EscapeKey if byte == b'[' => self.push(byte, State::Csi),
            State::EscapeKey => {
                self.clear();
                self.ground(byte, take);
            }
            State::Csi => self.csi(byte, take),
            State::Ss3 => self.goes_on(byte, State::Ground, true, take),
            State::Mouse(missing) => self.goes_on(byte, State::Mouse(missing - 1), missing == 1, take),
            State::String => self.string(byte, take),
            State::StringEscape if byte == b'\\' => {
                self.begun.push(byte);
                self.end(Token::Report, take);
            }
            State::StringEscape => {
                let escape = self.begun.pop();
                self.end(Token::Report, take);
                escape.into_iter().chain([byte]).for_each(|byte| self.feed(byte, take));
            }
            State::Paste => self.paste(byte, take),
        }
    }

    fn push(&mut self, byte: u8, state: State) {
        self.begun.push(byte);
        self.state = state;
    }

    fn clear(&mut self) {
        self.begun.clear();
        self.flushed = 0;
        self.state = State::Ground;
    }

    fn end(&mut self, token: Token, take: &mut impl FnMut(Token, &[u8])) {
        let begun = std::mem::take(&mut self.begun);
        let rest = begun.get(self.flushed..).unwrap_or_default();
        self.clear();
        take(token, rest);
    }

    /// Ends the current piece before this byte.
    fn again(&mut self, byte: u8, token: Token, take: &mut impl FnMut(Token, &[u8])) {
        self.end(token, take);
        self.feed(byte, take);
    }

    fn goes_on(&mut self, byte: u8, state: State, is_whole: bool, take: &mut impl FnMut(Token, &[u8])) {
        let was = self.state;
        self.push(byte, state);
        if is_whole {
            let token = match was {
                State::Character(_) => {
                    Token::Key(std::str::from_utf8(&self.begun).ok().and_then(|text| text.chars().next()))
                }
                State::Mouse(_) => Token::Report,
                _ => Token::Key(None),
            };
            self.end(token, take);
        }
    }

    fn ground(&mut self, byte: u8, take: &mut impl FnMut(Token, &[u8])) {
        match byte {
            ESC => self.push(byte, State::Escape),
            0xc2..=0xdf => self.push(byte, State::Character(1)),
            0xe0..=0xef => self.push(byte, State::Character(2)),
            0xf0..=0xf4 => self.push(byte, State::Character(3)),
            0..=0x7f => take(Token::Key(Some(char::from(byte))), &[byte]),
            _ => take(Token::Key(None), &[byte]),
        }
    }

    fn escape(&mut self, byte: u8, take: &mut impl FnMut(Token, &[u8])) {
        match byte {
            b'[' => self.push(byte, State::Csi),
            b'O' => self.push(byte, State::Ss3),
            b']' | b'P' | b'_' | b'^' | b'X' => self.push(byte, State::String),
            ESC => self.again(byte, Token::Key(Some('\x1b')), take),
            // A character with Alt.
            _ => {
                self.begun.push(byte);
                self.end(Token::Key(None), take);
            }
        }
    }

    fn csi(&mut self, byte: u8, take: &mut impl FnMut(Token, &[u8])) {
        match byte {
            b'M' if self.begun == b"\x1b[" => self.push(byte, State::Mouse(3)),
            // A function key of the Linux console.
            b'[' if self.begun == b"\x1b[" => self.push(byte, State::Ss3),
            0x40..=0x7e => {
                self.begun.push(byte);
                let sequence = self.begun.get(2..).unwrap_or_default();
                let begins_paste = sequence == b"200~";
                let token = meaning(sequence);
                self.end(token, take);
                if begins_paste {
                    self.state = State::Paste;
                }
            }
            0x20..=0x3f if self.begun.len() < SEQUENCE_MOST => self.push(byte, State::Csi),
            _ => self.again(byte, Token::Key(None), take),
        }
    }

    fn string(&mut self, byte: u8, take: &mut impl FnMut(Token, &[u8])) {
        match byte {
            ESC => self.push(byte, State::StringEscape),
            0x07 => {
                self.begun.push(byte);
                self.end(Token::Report, take);
            }
            // Not a sequence: no terminal writes control characters inside one.
            0..=0x1f => self.again(byte, Token::Key(None), take),
            _ => {
                self.push(byte, State::String);
                if self.begun.len() >= STRING_PART {
                    self.end(Token::Report, take);
                    self.state = State::String;
                }
            }
        }
    }

    /// Passes everything up to the end of the paste.
    fn paste(&mut self, byte: u8, take: &mut impl FnMut(Token, &[u8])) {
        const END: &[u8] = b"\x1b[201~";
        self.begun.push(byte);
        if self.begun == END {
            self.end(Token::Paste, take);
        } else if !END.starts_with(&self.begun) {
            self.begun.pop();
            let restarts = byte == ESC;
            if restarts && self.is_within() {
                self.end(Token::Paste, take);
            } else if !restarts {
                self.begun.push(byte);
                self.end(Token::Paste, take);
            } else {
                self.clear();
            }
            self.state = State::Paste;
            if restarts {
                self.begun.push(byte);
            }
        }
    }
}

/// The token for a control sequence, without its introducer.
fn meaning(sequence: &[u8]) -> Token {
    let Some((&letter, parameters)) = sequence.split_last() else { return Token::Key(None) };
    if parameters.iter().any(|byte| !matches!(byte, b'0'..=b'9' | b';' | b':')) {
        // Private markers denote answers of the terminal.
        return Token::Report;
    }
    let text = std::str::from_utf8(parameters).unwrap_or_default();
    let fields: Vec<Vec<u32>> = text
        .split(';')
        .map(|field| field.split(':').map(|number| number.parse().unwrap_or(0)).collect())
        .collect();
    let number =
        |at: usize, sub: usize| fields.get(at).and_then(|field| field.get(sub)).copied().unwrap_or(0);
    match letter {
        b'I' | b'O' if parameters.is_empty() => Token::Report,
        b'M' | b'T' | b'R' | b'c' | b'n' | b't' | b'x' | b'y' => Token::Report,
        b'~' if matches!(number(0, 0), 200 | 201) && fields.len() == 1 => Token::Paste,
        b'~' if number(0, 0) == 27 && fields.len() == 3 => {
            Token::Key(typed_by(Press { code: number(2, 0), modifiers: number(1, 0), ..Press::default() }))
        }
        // Parameters: key and its shifted form, modifiers and event type, the text it types.
        b'u' => match (number(1, 1), number(0, 0)) {
            (3, _) | (_, 57_358..=57_360 | 57_441..=57_454) => Token::Silent,
            _ => Token::Key(typed_by(Press {
                code: number(0, 0),
                shifted: number(0, 1),
                modifiers: number(1, 0),
                text: number(2, 0),
            })),
        },
        _ if number(1, 1) == 3 => Token::Silent,
        _ => Token::Key(None),
    }
}

/// A key press; 0 stands for unknown.
#[derive(Debug, Clone, Copy, Default)]
struct Press {
    code: u32,
    shifted: u32,
    modifiers: u32,
    text: u32,
}

/// The character that a plain terminal would send.
fn typed_by(press: Press) -> Option<char> {
    const SHIFT: u32 = 1;
    const CTRL: u32 = 4;
    /// Alt, Super, Hyper, Meta.
    const OTHERS: u32 = 2 | 8 | 16 | 32;
    let modifiers = press.modifiers.saturating_sub(1);
    if modifiers & OTHERS != 0 {
        return None;
    }
    let code = char::from_u32(match press.code {
        57_409 => u32::from(b'.'),
        57_414 => u32::from(b'\r'),
        0xe000..=0xf8ff => return None,
        code => code,
    })?;
    let known = [press.text, press.shifted].into_iter().filter(|known| *known != 0).find_map(char::from_u32);
    let c = match modifiers & SHIFT {
        0 => char::from_u32(press.text).filter(|_| press.text != 0).unwrap_or(code),
        _ => known.unwrap_or_else(|| with_shift(code)),
    };
    if modifiers & CTRL == 0 {
        return Some(c);
    }
    let control = |c: char| match c {
        ' ' => Some('\0'),
        '@'..='_' | 'a'..='z' => Some(char::from((c as u8) & 0x1f)),
        _ => None,
    };
    control(c).or_else(|| control(code))
}

/// The shifted form on most keyboards, for terminals that do not report it.
fn with_shift(c: char) -> char {
    match c {
        '`' => '~',
        '/' => '?',
        '2' => '@',
        '6' => '^',
        '-' => '_',
        c => c.to_ascii_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens of one input. Also checks that no byte is lost however the input is split.
    fn tokens(bytes: &[u8]) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut decoder = Decoder::default();
        bytes.iter().for_each(|&byte| decoder.feed(byte, &mut |token, _| tokens.push(token)));
        for cut in 0..=bytes.len() {
            let (mut decoder, mut passed) = (Decoder::default(), Vec::new());
            for (at, &byte) in bytes.iter().enumerate() {
                if at == cut {
                    passed.extend(decoder.flush().1);
                }
                decoder.feed(byte, &mut |_, bytes| passed.extend_from_slice(bytes));
            }
            passed.extend(decoder.flush().1);
            assert_eq!(passed, bytes, "cut at {cut}");
        }
        tokens
    }

    #[test]
    fn a_key_is_the_same_in_every_dialect() {
        for (typed, dialects) in [
            (
                '\x1d',
                &["\x1d", "\x1b[27;5;93~", "\x1b[93;5u", "\x1b[93;5:1u", "\x1b[93;69u", "\x1b[93:125;5:2u"][..],
            ),
            ('d', &["d", "\x1b[100u", "\x1b[100;1u", "\x1b[100;;100u", "\x1b[100;129:1u"]),
            ('~', &["~", "\x1b[27;2;126~", "\x1b[96:126;2u", "\x1b[96;2u", "\x1b[96;2;126u", "\x1b[126u"]),
            ('.', &[".", "\x1b[46u", "\x1b[57409u"]),
            ('\x03', &["\x03", "\x1b[99;5u", "\x1b[27;5;99~", "\x1b[99:67;5u"]),
            ('\r', &["\r", "\x1b[13u", "\x1b[13;1:1u", "\x1b[57414u"]),
            ('\x1e', &["\x1e", "\x1b[27;6;94~", "\x1b[54;6u", "\x1b[54:94;6u"]),
            ('漢', &["漢", "\x1b[28450u"]),
        ] {
            for dialect in dialects {
                assert_eq!(tokens(dialect.as_bytes()), [Token::Key(Some(typed))], "{dialect:?}");
            }
        }
        for other in [
            "\x1b[A",
            "\x1b[1;5C",
            "\x1bOP",
            "\x1b[15~",
            "\x1b[3;5~",
            "\x1bx",
            "\x1b[99;3u",
            "\x1b[[A",
            "\x1b[57399u",
        ] {
            assert_eq!(tokens(other.as_bytes()), [Token::Key(None)], "{other:?}");
        }
    }

    #[test]
    fn what_the_terminal_says_by_itself_is_no_key() {
        for said in [
            "\x1b[I",
            "\x1b[O",
            "\x1b[<35;10;20M",
            "\x1b[<0;1;1m",
            "\x1b[M !!",
            "\x1b[35;10;20M",
            "\x1b[12;40R",
            "\x1b[?64;1;2c",
            "\x1b[>41;380;0c",
            "\x1b[0n",
            "\x1b[?997;1n",
            "\x1b[?2026;2$y",
            "\x1b[8;24;80t",
            "\x1b[?1u",
            "\x1b]11;rgb:ffff/ffff/ffff\x1b\\",
            "\x1b]10;rgb:0/0/0\x07",
            "\x1bP1$r0m\x1b\\",
            "\x1bP>|XTerm(380)\x1b\\",
            "\x1b_Gi=1;OK\x1b\\",
        ] {
            assert_eq!(tokens(said.as_bytes()), [Token::Report], "{said:?}");
        }
        for silent in ["\x1b[93;5:3u", "\x1b[57442;5u", "\x1b[1;1:3A", "\x1b[3;1:3~"] {
            assert_eq!(tokens(silent.as_bytes()), [Token::Silent], "{silent:?}");
        }
    }

    #[test]
    fn a_paste_is_one_up_to_its_end() {
        let pasted = tokens(b"\x1b[200~a\r~.\x1dd\x1b[201\x1b\x1b[20\x1b]x\x1b[201~d");
        let (last, paste) = pasted.split_last().expect("tokens");
        assert!(paste.iter().all(|token| *token == Token::Paste), "{pasted:?}");
        assert_eq!(*last, Token::Key(Some('d')));
    }

    #[test]
    fn an_escape_key_is_told_after_a_moment_and_its_sequence_may_still_follow() {
        let mut decoder = Decoder::default();
        let mut told = Vec::new();
        decoder.feed(ESC, &mut |_, _| panic!("too early"));
        assert_eq!(decoder.flush(), (Some(Token::Key(Some('\x1b'))), vec![ESC]));
        decoder.feed(b'~', &mut |token, bytes| told.push((token, bytes.to_vec())));
        assert_eq!(told, [(Token::Key(Some('~')), b"~".to_vec())]);
        told.clear();
        // Fed in three pieces.
        decoder.feed(ESC, &mut |_, _| {});
        decoder.flush();
        decoder.feed(b'[', &mut |_, _| {});
        assert_eq!(decoder.flush(), (None, b"[".to_vec()));
        b"200~"
            .iter()
            .for_each(|&byte| decoder.feed(byte, &mut |token, bytes| told.push((token, bytes.to_vec()))));
        assert_eq!(told, [(Token::Paste, b"200~".to_vec())]);
        // Alt and a bracket must not start a string that swallows the following input.
        let mut decoder = Decoder::default();
        b"\x1b]".iter().for_each(|&byte| decoder.feed(byte, &mut |_, _| {}));
        assert_eq!(decoder.flush(), (Some(Token::Key(None)), b"\x1b]".to_vec()));
        assert_eq!(decoder.state, State::Ground);
    }
}
