//! Queries: the sequences that a terminal answers as if somebody had typed.
//!
//! With several viewers only one may receive queries, and a viewer that only watches receives none. Setting
//! the clipboard counts as a query: it affects only the responder's clipboard. Guarantees of [`QueryFilter`]:
//! it removes exactly the queries, however the output is split into pieces. All other bytes stay unchanged.
//! The responder may change at any byte: each query reaches the viewer that was the responder at the query's
//! first byte.
//!
//! Limit: an image of the kitty protocol that requests an acknowledgement is not removed.

use super::lexer::{Lexer, Piece};

/// Asks the terminal for its answerback text.
const ENQ: u8 = 0x05;

/// Removes queries from the output for a terminal.
#[derive(Debug, Default)]
pub struct QueryFilter {
    lexer: Lexer,
    /// How many bytes held by the lexer were already passed, because queries were passed then.
    passed: usize,
    /// Whether the rest of an overlong sequence is being removed.
    dropping: bool,
    /// Whether a query was passed.
    asked: bool,
}

impl QueryFilter {
    /// Returns the part of `bytes` that a terminal may see; `at` is the offset of the first byte. If `asked`
    /// is true for the offset at which a query begins, the query is passed.
    ///
    /// Otherwise bytes that may become a query are held back until this is decided.
    pub fn feed(&mut self, bytes: &[u8], at: u64, asked: impl Fn(u64) -> bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let Self { lexer, passed, dropping, asked: has_asked } = self;
        let end = at.saturating_add(bytes.len() as u64);
        // The start of the next piece, possibly before `bytes`.
        let mut start = at.saturating_sub(lexer.held().len() as u64);
        lexer.feed(bytes, |piece| {
            // A sequence whose start was passed is passed to its end.
            let skip = std::mem::take(passed);
            let whole = skip > 0 || asked(start);
            let (Piece::Text(bytes) | Piece::Control(bytes) | Piece::Part(bytes)) = piece;
            match piece {
                Piece::Part(part) => {
                    if is_beginning(part) {
                        *dropping = !whole && is_question(part);
                    }
                    if !*dropping {
                        out.extend_from_slice(part.get(skip..).unwrap_or_default());
                    }
                }
                Piece::Control(control) if whole => {
                    *has_asked |= is_question(control);
                    out.extend_from_slice(control.get(skip..).unwrap_or_default());
                }
                Piece::Control(control) => without_question(control, &mut out),
                Piece::Text(text) => {
                    let from = start.saturating_add(skip as u64);
                    *has_asked |= text.contains(&ENQ);
                    without_questions(text.get(skip..).unwrap_or_default(), from, &asked, &mut out);
                }
            }
            start = start.saturating_add(bytes.len() as u64);
        });
        let begun = self.lexer.held();
        if asked(end.saturating_sub(begun.len() as u64)) || self.passed > 0 {
            out.extend_from_slice(begun.get(self.passed..).unwrap_or_default());
            self.passed = begun.len();
        }
        out
    }

    /// Whether a sequence was passed whose end has not arrived yet.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.passed > 0 || (self.lexer.overlong().is_some() && !self.dropping)
    }

    /// Whether a query was passed since the last call.
    pub fn has_asked(&mut self) -> bool {
        std::mem::take(&mut self.asked)
    }

    /// The bytes held back, once no more output comes.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = self.lexer.held().get(self.passed..).unwrap_or_default().to_vec();
        *self = Self::default();
        held
    }
}

fn is_beginning(part: &[u8]) -> bool {
    part.first() == Some(&0x1b)
}

/// Text may contain ENQ and an 8-bit control (DECID), which takes two bytes in UTF-8.
fn without_questions(text: &[u8], start: u64, asked: &impl Fn(u64) -> bool, out: &mut Vec<u8>) {
    let mut before = None;
    for (at, &byte) in (start..).zip(text) {
        match (before, byte) {
            (_, ENQ) if !asked(at) => {}
            (Some(0xc2), 0x9a) if !asked(at.saturating_sub(1)) => _ = out.pop(),
            _ => out.push(byte),
        }
        before = Some(byte);
    }
}

fn without_question(control: &[u8], out: &mut Vec<u8>) {
    if is_question(control) {
        // Control characters within a sequence act as if they came before it.
        if let [0x1b, b'[', rest @ ..] | [0xc2, 0x9b, rest @ ..] = control {
            out.extend(rest.iter().filter(|&&byte| byte < 0x20 && byte != ENQ));
        }
        return;
    }
    match color_settings(control) {
        Some(settings) => out.extend_from_slice(&settings),
        None if is_string(control) => out.extend_from_slice(control),
        None => out.extend(control.iter().filter(|&&byte| byte != ENQ)),
    }
}

fn is_string(control: &[u8]) -> bool {
    matches!(control, [0x1b, b']' | b'P' | b'X' | b'^' | b'_', ..])
}

fn is_question(control: &[u8]) -> bool {
    match control {
        [0x1b, b'Z'] => true,
        [0x1b, b'[', rest @ ..] | [0xc2, 0x9b, rest @ ..] => {
            let plain: Vec<u8> = rest.iter().copied().filter(|byte| (0x20..0x7f).contains(byte)).collect();
            is_asking_csi(&plain)
        }
        [0x1b, b']', rest @ ..] => is_asking_osc(without_end(rest)),
        [0x1b, b'P', rest @ ..] => is_asking_dcs(rest),
        // Asks whether the terminal can show an image.
        [0x1b, b'_', b'G', rest @ ..] => {
            let settings = rest.split(|&byte| byte == b';').next().unwrap_or_default();
            without_end(settings).split(|&byte| byte == b',').any(|setting| setting == b"a=q")
        }
        _ => false,
    }
}

/// Classifies a control sequence after its introducer: parameters, intermediates, final byte.
fn is_asking_csi(rest: &[u8]) -> bool {
    let Some((&letter, before)) = rest.split_last() else { return false };
    let parameters = before.iter().take_while(|byte| (0x30..0x40).contains(*byte)).count();
    let (parameters, intermediates) = before.split_at(parameters);
    let (private, numbers) = match parameters {
        [mark @ 0x3c..=0x3f, numbers @ ..] => (Some(*mark), numbers),
        numbers => (None, numbers),
    };
    let number = |at: usize| -> u32 {
        let text = numbers.split(|&byte| byte == b';').nth(at).unwrap_or_default();
        std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    match (private, intermediates, letter) {
        // Device attributes; cursor position and status.
        (None | Some(b'>' | b'='), [], b'c') | (None | Some(b'?'), [], b'n') => true,
        // Version, keyboard.
        (Some(b'>'), [], b'q') | (Some(b'?'), [], b'u' | b'm') => true,
        (None, [], b'x') => number(0) <= 1,
        // Windows: size, position, titles.
        (None, [], b't') => matches!(number(0), 11 | 13..=16 | 18..=21),
        // Modes, settings, checksums, tab stops, colors, attributes, the mouse.
        (None | Some(b'?'), [b'$'], b'p') | (None, [b'*'], b'y') | (None, [b'$'], b'w' | b'u') => true,
        (None, [b'#'], b'R' | b'|') | (None, [b'"'], b'v') | (None, [b'\''], b'|') | (None, [b'&'], b'u') => {
            true
        }
        // Image capabilities.
        (Some(b'?'), [], b'S') => true,
        _ => false,
    }
}

fn without_end(string: &[u8]) -> &[u8] {
    string
        .strip_suffix(b"\x1b\\")
        .or_else(|| string.strip_suffix(b"\x07"))
        .or_else(|| string.strip_suffix(b"\x18"))
        .or_else(|| string.strip_suffix(b"\x1a"))
        .unwrap_or(string)
}

/// Classifies an operating system command, without introducer and terminator.
fn is_asking_osc(body: &[u8]) -> bool {
    let mut fields = body.split(|&byte| byte == b';');
    let command = fields.next().unwrap_or_default();
    let mut fields = fields.peekable();
    match command {
        // Colors: a query, unless it also sets some.
        b"4" | b"5" => {
            let values: Vec<&[u8]> = fields.skip(1).step_by(2).collect();
            !values.is_empty() && values.iter().all(|value| *value == b"?")
        }
        b"10" | b"11" | b"12" | b"13" | b"14" | b"15" | b"16" | b"17" | b"18" | b"19" => {
            fields.peek().is_some() && fields.all(|value| value == b"?")
        }
        // Colors and pointer shapes of kitty.
        b"21" => fields.any(|pair| pair.ends_with(b"=?")),
        b"22" => fields.peek().is_some_and(|value| value.starts_with(b"?")),
        // Reads or sets the clipboard: never that of all viewers.
        b"52" => true,
        b"5522" => true,
        b"99" => fields.next().is_some_and(|meta| meta.split(|&b| b == b':').any(|item| item == b"p=?")),
        // iTerm: sizes, variables, uploads, the clipboard.
        b"1337" => fields.next().is_some_and(|word| {
            [
                &b"ReportCellSize"[..],
                b"ReportVariable=",
                b"RequestUpload=",
                b"Capabilities",
                b"Copy",
                b"EndCopy",
            ]
            .iter()
            .any(|asking| word.starts_with(asking))
        }),
        b"50" | b"60" | b"61" => fields.next() == Some(b"?") || command != b"50",
        _ => false,
    }
}

/// The settings within a color command that also contains queries.
fn color_settings(control: &[u8]) -> Option<Vec<u8>> {
    let [0x1b, b']', rest @ ..] = control else { return None };
    let body = without_end(rest);
    let end = rest.get(body.len()..).unwrap_or_default();
    let mut fields = body.split(|&byte| byte == b';');
    let command = fields.next().unwrap_or_default();
    let values: Vec<&[u8]> = fields.collect();
    if !values.contains(&&b"?"[..]) {
        return None;
    }
    let say = |words: &[&[u8]]| [b"\x1b]", &words.join(&b';')[..], end].concat();
    match std::str::from_utf8(command).ok()?.parse::<u16>().ok()? {
        4 | 5 => {
            let pairs = values.chunks(2).filter(|pair| pair.get(1) != Some(&&b"?"[..]));
            let words: Vec<&[u8]> = std::iter::once(command).chain(pairs.flatten().copied()).collect();
            Some(say(&words))
        }
        first @ 10..=19 => {
            let set = (first..=19).zip(&values).filter(|(_, value)| **value != b"?");
            Some(set.flat_map(|(which, value)| say(&[which.to_string().as_bytes(), value])).collect())
        }
        _ => None,
    }
}

/// Classifies a device control string after its introducer: it can query settings and capabilities.
fn is_asking_dcs(rest: &[u8]) -> bool {
    let header = rest.iter().position(|byte| (0x40..0x7f).contains(byte)).map(|at| rest.get(..=at));
    matches!(header.flatten(), Some(header) if header.ends_with(b"$q") || header.ends_with(b"+q"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTIONS: [&str; 41] = [
        "\x1b]52;c;aGk=\x07",
        "\x05",
        "\x1bZ",
        "\x1b[c",
        "\x1b[0c",
        "\x1b[>c",
        "\x1b[=c",
        "\x1b[5n",
        "\x1b[6n",
        "\x1b[?6n",
        "\x1b[?996n",
        "\x1b[x",
        "\x1b[18t",
        "\x1b[14t",
        "\x1b[21t",
        "\x1b[?2026$p",
        "\x1b[4$p",
        "\x1b[>q",
        "\x1b[>0q",
        "\x1b[?u",
        "\x1b[?4m",
        "\x1b[1;1;1;1;1;1*y",
        "\x1b[2$w",
        "\x1b[?1;1;0S",
        "\x1b]10;?\x07",
        "\x1b]11;?\x1b\\",
        "\x1b]4;1;?\x07",
        "\x1b]4;1;?;2;?\x1b\\",
        "\x1b]10;?;?\x07",
        "\x1b]52;c;?\x07",
        "\x1b]1337;ReportCellSize\x07",
        "\x1bP$qm\x1b\\",
        "\x1bP+q544e\x1b\\",
        "\x1b_Gi=1,a=q;AAAA\x1b\\",
        "\u{9b}6n",
        "\u{9a}",
        "\u{9b}c",
        "\x1b]21;foreground=?\x1b\\",
        "\x1b]22;?__current__\x1b\\",
        "\x1b[&u",
        "\x1b[#R",
    ];

    const OTHERS: [&str; 25] = [
        "text, ümläut, 漢字 and\ttabs\r\n",
        "\x1b[31m",
        "\x1b[1;2H",
        "\x1b[?25l",
        "\x1b[>4;2m",
        "\x1b[>4n",
        "\x1b[>1u",
        "\x1b[22;0t",
        "\x1b[8;24;80t",
        "\x1b[2 q",
        "\x1b[!p",
        "\x1b]2;is this a title?\x07",
        "\x1b]4;1;#ff0000\x1b\\",
        "\x1b]8;;http://a/?q\x1b\\",
        "\x1bPq#0;2;0;0;0~\x1b\\",
        "\x1b_Gi=1,a=T;AAAA\x1b\\",
        "\x1b(0",
        "\x1b7",
        "\x1b[4;1*x",
        "\x1b[s",
        "\x1b[u",
        "\x1b[1S",
        "\x1b[?2048h",
        "\u{9b}31m",
        "\x1b]10;#fff\x07",
    ];

    fn filtered(bytes: &[u8], at: &[usize]) -> Vec<u8> {
        let mut filter = QueryFilter::default();
        let mut out = Vec::new();
        let mut from = 0;
        for &to in at.iter().chain([&bytes.len()]) {
            out.extend(filter.feed(&bytes[from..to], from as u64, |_| false));
            from = to;
        }
        out.extend(filter.finish());
        out
    }

    #[test]
    fn questions_go_and_all_else_stays_wherever_it_is_cut() {
        for question in QUESTIONS {
            for other in OTHERS {
                let bytes = format!("{other}{question}{other}");
                let wanted = other.repeat(2);
                for cut in 0..=bytes.len() {
                    let left = filtered(bytes.as_bytes(), &[cut]);
                    assert_eq!(String::from_utf8_lossy(&left), wanted, "{bytes:?} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn what_is_asked_besides_is_taken_out_of_a_setting() {
        let cases = [
            ("\x1b]4;1;?;2;#fff;3;?\x07", "\x1b]4;2;#fff\x07"),
            ("\x1b]10;#111;?;#333\x1b\\", "\x1b]10;#111\x1b\\\x1b]12;#333\x1b\\"),
            ("\x1b[\n6\x05n", "\n"),
            ("\x1b[3\x051m", "\x1b[31m"),
        ];
        for (asked, wanted) in cases {
            assert_eq!(String::from_utf8_lossy(&filtered(asked.as_bytes(), &[])), wanted, "{asked:?}");
        }
    }

    #[test]
    fn who_is_asked_sees_everything_at_once() {
        let mut filter = QueryFilter::default();
        let mut at = 0;
        for bytes in [&b"a\x1b["[..], b"6", b"n\xe6\xbc", b"\xa2\x1b]11;", b"?\x07"] {
            assert_eq!(filter.feed(bytes, at, |_| true), bytes);
            at += bytes.len() as u64;
        }
    }

    /// Two viewers see the same output and take turns as the responder. Each query reaches only the one that
    /// was the responder when it began, wherever turns and pieces end. Both see everything else.
    #[test]
    fn who_is_asked_may_change_at_any_byte() {
        let bytes = "a\x1b[6nb\x05\u{9a}c\x1b]11;?\x07\x1b[31mx\u{6f22}\x1bP+q544e\x1b\\d\u{9b}c".as_bytes();
        let rest = filtered(bytes, &[]).len();
        let seen = |turn: u64, cut: usize, first: bool| {
            let asked = |at| (at < turn) == first;
            let mut filter = QueryFilter::default();
            let mut out = filter.feed(&bytes[..cut], 0, asked);
            out.extend(filter.feed(&bytes[cut..], cut as u64, asked));
            out.extend(filter.finish());
            out
        };
        for turn in 0..=bytes.len() as u64 {
            for cut in 0..=bytes.len() {
                // One of them gets unsplit pieces.
                let (one, other) = (seen(turn, cut, true), seen(turn, 0, false));
                assert_eq!(one.len() + other.len(), bytes.len() + rest, "turn at {turn}, cut at {cut}");
            }
        }
        assert_eq!(
            seen(3, 2, true),
            [&b"a\x1b[6nb"[..], &filtered(&bytes[6..], &[])].concat(),
            "what had begun"
        );
    }

    /// An incomplete query at the end of a snapshot belongs to the responder at its first byte.
    #[test]
    fn a_question_that_began_before_is_asked_of_its_own() {
        for (turn, wanted) in [(8, &b"\x1b[6n"[..]), (9, b"")] {
            let mut filter = QueryFilter::default();
            assert_eq!(filter.feed(b"\x1b[", 0, |_| false), b"");
            assert!(!filter.has_begun());
            // The query has the offsets 8 to 12.
            assert_eq!(filter.feed(b"6n", 10, |at| at >= turn), wanted);
        }
    }

    #[test]
    fn what_is_too_long_goes_through_in_parts_or_not_at_all() {
        let picture = [&b"\x1bPq"[..], &vec![b'~'; 300_000], b"\x1b\\after"].concat();
        assert!(filtered(&picture, &[1, 70_000, 200_000]) == picture);
        let question = [&b"\x1bP+q"[..], &vec![b'4'; 300_000], b"\x1b\\after"].concat();
        assert_eq!(filtered(&question, &[1, 70_000, 200_000]), b"\x1b\\after");
    }
}
