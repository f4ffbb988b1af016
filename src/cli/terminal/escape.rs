//! Keys for `d` itself instead of the command: to detach from a terminal that keeps running.
//!
//! As with ssh, a `~` at the beginning of a line starts a two-key command: `~.` detaches, `~~`
//! sends one `~`, `~?` shows help. With any other key, both go to the command. The detach keys work
//! anywhere: Ctrl-] d, or the configured ones. A watcher can also detach with Ctrl-C or `q`.
//! Everything else passes unchanged, in particular pastes and the terminal's own reports.

use super::decode::{Decoder, Token};

/// The text of `~?`.
pub(super) const HELP: &str = "keys for d, at the beginning of a line:  ~.  leaves; the command goes on   ~~  one ~   \
                               ~?  this; anywhere: the keys of --detach-keys (Ctrl-] d) leave too";

/// The default detach keys.
const USUAL: [u8; 2] = [0x1d, b'd'];

/// Filters typed keys for the command.
#[derive(Debug)]
pub(super) struct Keys {
    decoder: Decoder,
    matcher: Matcher,
}

#[derive(Debug)]
struct Matcher {
    leave: Vec<u8>,
    /// How many of the detach keys were typed so far.
    begun: usize,
    tilde: bool,
    /// The bytes of a possible tilde command or detach sequence whose rest may follow.
    held: Vec<u8>,
    at_line_start: bool,
    watches: bool,
    /// Whether `d` interprets any keys.
    listening: bool,
}

/// The result of filtering.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Typed {
    /// Bytes for the command.
    pub(super) bytes: Vec<u8>,
    /// Whether the user detaches. Later bytes are not taken.
    pub(super) leaves: bool,
    /// Whether the user asks for help.
    pub(super) help: bool,
}

impl Keys {
    /// With these detach keys; an empty list disables all keys.
    pub(super) fn new(leave: Option<Vec<u8>>) -> Self {
        let leave = leave.unwrap_or_else(|| USUAL.to_vec());
        let listening = !leave.is_empty();
        let matcher = Matcher {
            leave,
            begun: 0,
            tilde: false,
            held: Vec::new(),
            at_line_start: true,
            watches: false,
            listening,
        };
        Self { decoder: Decoder::default(), matcher }
    }

    /// For a user who only watches.
    pub(super) fn of_watcher(leave: Option<Vec<u8>>) -> Self {
        let mut keys = Self::new(leave);
        (keys.matcher.watches, keys.matcher.listening) = (true, true);
        keys
    }

    /// Filters typed bytes, up to the detach keys.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Typed {
        let mut typed = Typed::default();
        let Self { decoder, matcher } = self;
        if !matcher.listening {
            typed.bytes = bytes.to_vec();
            return typed;
        }
        for &byte in bytes {
            decoder.feed(byte, &mut |token, bytes| matcher.take(token, bytes, &mut typed));
            if typed.leaves {
                break;
            }
        }
        typed
    }

    /// Whether an incomplete sequence waits for its rest and must be [flushed](Self::flush) soon.
    pub(super) fn are_waiting(&self) -> bool {
        self.decoder.is_within()
    }

    /// Passes on an incomplete sequence whose rest did not come.
    pub(super) fn flush(&mut self) -> Typed {
        let mut typed = Typed::default();
        match self.decoder.flush() {
            (Some(token), bytes) => self.matcher.take(token, &bytes, &mut typed),
            (None, bytes) if bytes.is_empty() => {}
            // Its late rest follows it, so nothing may be held back before it.
            (None, bytes) => {
                self.matcher.release(&mut typed);
                typed.bytes.extend(bytes);
            }
        }
        typed
    }
}

impl Matcher {
    fn take(&mut self, token: Token, bytes: &[u8], typed: &mut Typed) {
        match token {
            Token::Key(key) => self.key(key, bytes, typed),
            // The terminal sends reports by itself, and the command may wait for them.
            Token::Report => typed.bytes.extend_from_slice(bytes),
            Token::Silent => self.pass(bytes, typed),
            Token::Paste => {
                self.release(typed);
                self.at_line_start = false;
                typed.bytes.extend_from_slice(bytes);
            }
        }
    }

    /// Passes bytes, after the held ones.
    fn pass(&mut self, bytes: &[u8], typed: &mut Typed) {
        let to = if self.held.is_empty() { &mut typed.bytes } else { &mut self.held };
        to.extend_from_slice(bytes);
    }

    /// Passes the held bytes to the command.
    fn release(&mut self, typed: &mut Typed) {
        (self.begun, self.tilde) = (0, false);
        if !self.held.is_empty() {
            typed.bytes.append(&mut self.held);
            self.at_line_start = false;
        }
    }

    fn key(&mut self, key: Option<char>, bytes: &[u8], typed: &mut Typed) {
        typed.leaves |= self.watches && matches!(key, Some('\x03' | 'q'));
        if std::mem::take(&mut self.tilde) {
            match key {
                Some('.') => typed.leaves = true,
                Some('?') => typed.help = true,
                Some('~') => {
                    typed.bytes.extend_from_slice(bytes);
                    self.at_line_start = false;
                }
                _ => {
                    self.release(typed);
                    return self.key(key, bytes, typed);
                }
            }
            self.held.clear();
            return;
        }
        let is_next = |begun: usize| self.leave.get(begun).is_some_and(|next| key == Some(char::from(*next)));
        if is_next(self.begun) {
            self.begun += 1;
            self.held.extend_from_slice(bytes);
            typed.leaves |= self.begun == self.leave.len();
            return;
        }
        if self.begun > 0 {
            self.release(typed);
            // The key may be the first detach key again.
            return self.key(key, bytes, typed);
        }
        if key == Some('~') && self.at_line_start {
            self.tilde = true;
            self.held.extend_from_slice(bytes);
            return;
        }
        self.at_line_start = matches!(key, Some('\r' | '\n' | '\x03' | '\x04'));
        typed.bytes.extend_from_slice(bytes);
    }
}

/// Parses detach keys such as `ctrl-],d`, `ctrl-p,ctrl-q`, or `none`.
pub(crate) fn detach_keys(text: &str) -> Result<Vec<u8>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    text.split(',').map(one_key).collect()
}

fn one_key(text: &str) -> Result<u8, String> {
    let control = text.strip_prefix("ctrl-").map(str::as_bytes);
    match (control, text.as_bytes()) {
        (Some(&[letter]), _) if letter.is_ascii_alphabetic() || b"@[\\]^_".contains(&letter) => {
            Ok(letter.to_ascii_uppercase() & 0x1f)
        }
        (None, &[key]) if key.is_ascii_graphic() => Ok(key),
        _ => Err(format!(
            "{text:?} is no key; keys are written as in `ctrl-],d` or `ctrl-p,ctrl-q`, or `none`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the command gets and whether the user detaches, for each encoding of the keys.
    fn typed(text: &[u8]) -> (String, bool) {
        let whole = Keys::new(None).take(text);
        let mut keys = Keys::new(None);
        let mut single = Typed::default();
        for byte in text {
            let typed = keys.take(&[*byte]);
            single.bytes.extend(typed.bytes);
            single.help |= typed.help;
            if typed.leaves {
                single.leaves = true;
                break;
            }
        }
        assert_eq!(whole, single);
        (String::from_utf8_lossy(&whole.bytes).into_owned(), whole.leaves)
    }

    #[test]
    fn a_tilde_means_something_at_the_beginning_of_a_line_only() {
        for (keys, gets, leaves) in [
            ("ls ~/x\r", "ls ~/x\r", false),
            ("~.", "", true),
            ("x~.", "x~.", false),
            ("x\r~.y", "x\r", true),
            ("~~.", "~.", false),
            ("~/x", "~/x", false),
            ("~\r~.", "~\r", true),
            ("~?~.", "", true),
            ("a\x03~.", "a\x03", true),
        ] {
            assert_eq!(typed(keys.as_bytes()), (gets.to_owned(), leaves), "{keys:?}");
        }
    }

    #[test]
    fn two_keys_leave_from_anywhere_and_each_alone_does_not() {
        for (keys, gets, leaves) in [
            ("abc\x1dd", "abc", true),
            ("abc\x1dx", "abc\x1dx", false),
            ("\x1d\x1dd", "\x1d", true),
            ("dd", "dd", false),
            ("~\x1dd", "~", true),
        ] {
            assert_eq!(typed(keys.as_bytes()), (gets.to_owned(), leaves), "{keys:?}");
        }
    }

    #[test]
    fn the_keys_are_known_in_every_dialect_and_whatever_the_terminal_says_meanwhile() {
        for (keys, gets, leaves) in [
            ("\x1b[27;5;93~d", "", true),
            ("x\x1b[93;5u\x1b[93;5:3ud", "x", true),
            ("\x1b[93;5u\x1b[93;5:3ux", "\x1b[93;5u\x1b[93;5:3ux", false),
            ("\r\x1b[I\x1b[O~\x1b[<35;1;1M.", "\r\x1b[I\x1b[O\x1b[<35;1;1M", true),
            ("\x1b]11;rgb:1/2/3\x1b\\\x1b[2;3R~.", "\x1b]11;rgb:1/2/3\x1b\\\x1b[2;3R", true),
            ("\x1b[13u\x1b[96:126;2u\x1b[96;1:3u\x1b[46u", "\x1b[13u", true),
            ("\x1b[A~.", "\x1b[A~.", false),
        ] {
            assert_eq!(typed(keys.as_bytes()), (gets.to_owned(), leaves), "{keys:?}");
        }
        let watched = |keys: &[u8]| Keys::of_watcher(Some(Vec::new())).take(keys).leaves;
        assert!(watched(b"\x1b[99;5u") && watched(b"\x1b[I\x1b[113uxx") && watched(b"\x03"));
        assert!(!watched(b"\x1b[200~q\x03\x1b[201~\x1b[113;1:3u"));
    }

    #[test]
    fn a_paste_passes_as_it_is() {
        for pasted in ["~~~sh", "~?", "~.", "a\r~.\rb", "\x1dd", "\x1b[27;5;93~d"] {
            let keys = format!("\r\x1b[200~{pasted}\x1b[201~");
            assert_eq!(typed(keys.as_bytes()), (keys.clone(), false), "{pasted:?}");
            // Also with every split into two reads.
            for cut in 0..keys.len() {
                let mut all = Keys::new(None);
                let (before, after) = keys.as_bytes().split_at(cut);
                let pieces = [all.take(before), all.flush(), all.take(after), all.flush()];
                assert!(pieces.iter().all(|piece| !piece.leaves && !piece.help), "{keys:?} at {cut}");
                assert_eq!(pieces.map(|piece| piece.bytes).concat(), keys.as_bytes(), "{keys:?} at {cut}");
            }
            assert!(typed(format!("{keys}\r~.").as_bytes()).1);
        }
    }

    #[test]
    fn all_other_bytes_pass() {
        let all: Vec<u8> = (0..=255).filter(|byte| *byte != 0x1d && *byte != b'~').collect();
        assert_eq!(Keys::new(None).take(&all).bytes, all);
        assert_eq!(Keys::new(Some(Vec::new())).take(b"~.\x1dd").bytes, b"~.\x1dd");
    }

    #[test]
    fn keys_are_written_as_people_do() {
        assert_eq!(detach_keys("ctrl-p,ctrl-q"), Ok(vec![0x10, 0x11]));
        assert_eq!(detach_keys("ctrl-],d"), Ok(USUAL.to_vec()));
        assert_eq!(detach_keys("none"), Ok(vec![]));
        for wrong in ["", "ctrl-", "ctrl-1", "ab", "a,,b", "é"] {
            assert!(detach_keys(wrong).is_err(), "{wrong}");
        }
    }
}
