//! Keys that are meant for `d` and not for the command: to leave a terminal that goes on.
//!
//! As with ssh, a `~` at the beginning of a line is the first of two keys: `~.` leaves, `~~` is one
//! `~`, `~?` shows help; with any other key both are the command's. And there are keys to leave that
//! work anywhere, Ctrl-] d, or whatever was asked for. Everything else passes as it is.

/// What `~?` shows.
pub(super) const HELP: &str = "keys for d, at the beginning of a line:  ~.  leaves; the command goes on   ~~  one ~   \
                               ~?  this; anywhere: the keys of --detach-keys (Ctrl-] d) leave too";

/// The keys that leave, unless others were asked for.
const USUAL: [u8; 2] = [0x1d, b'd'];

/// Keys that are typed, as the command is to get them.
#[derive(Debug)]
pub(super) struct Keys {
    leave: Vec<u8>,
    /// How many of the keys that leave were typed.
    begun: usize,
    tilde: bool,
    at_line_start: bool,
    /// Whether keys mean anything to `d` at all.
    listening: bool,
}

/// What was typed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Typed {
    /// For the command.
    pub(super) bytes: Vec<u8>,
    /// Whether the person wants to leave; what was typed after that is nobody's.
    pub(super) leaves: bool,
    /// Whether help is wanted.
    pub(super) help: bool,
}

impl Keys {
    /// With the keys that leave; none of them if that is empty.
    pub(super) fn new(leave: Option<Vec<u8>>) -> Self {
        let leave = leave.unwrap_or_else(|| USUAL.to_vec());
        let listening = !leave.is_empty();
        Self { leave, begun: 0, tilde: false, at_line_start: true, listening }
    }

    /// For input that no person types.
    pub(super) fn of_nobody() -> Self {
        Self::new(Some(Vec::new()))
    }

    /// Takes what was typed.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Typed {
        let mut typed = Typed::default();
        if !self.listening {
            typed.bytes = bytes.to_vec();
            return typed;
        }
        for &byte in bytes {
            if !self.is_tilde_done(byte, &mut typed) {
                self.key(byte, &mut typed);
            }
            if typed.leaves {
                break;
            }
        }
        typed
    }

    /// The second of two keys of which the first was a tilde.
    fn is_tilde_done(&mut self, byte: u8, typed: &mut Typed) -> bool {
        if !std::mem::take(&mut self.tilde) {
            return false;
        }
        match byte {
            b'.' => typed.leaves = true,
            b'?' => typed.help = true,
            b'~' => {
                typed.bytes.push(b'~');
                self.at_line_start = false;
            }
            _ => {
                typed.bytes.push(b'~');
                self.at_line_start = false;
                return false;
            }
        }
        true
    }

    fn key(&mut self, byte: u8, typed: &mut Typed) {
        if self.leave.get(self.begun) == Some(&byte) {
            self.begun += 1;
            typed.leaves = self.begun == self.leave.len();
            return;
        }
        if self.begun > 0 {
            let begun = std::mem::take(&mut self.begun);
            typed.bytes.extend(self.leave.iter().take(begun));
            self.at_line_start = false;
            // It may be the first of them again.
            return self.key(byte, typed);
        }
        if byte == b'~' && self.at_line_start {
            self.tilde = true;
            return;
        }
        self.at_line_start = matches!(byte, b'\r' | b'\n' | 0x03 | 0x04);
        typed.bytes.push(byte);
    }
}

/// Keys as people write them: `ctrl-],d`, `ctrl-p,ctrl-q`, or `none`.
pub(in crate::cli) fn detach_keys(text: &str) -> Result<Vec<u8>, String> {
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

    /// What the command gets, and whether the person leaves, however the keys arrive.
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
    fn all_other_bytes_pass() {
        let all: Vec<u8> = (0..=255).filter(|byte| *byte != 0x1d && *byte != b'~').collect();
        assert_eq!(Keys::new(None).take(&all).bytes, all);
        assert_eq!(Keys::of_nobody().take(b"~.\x1dd").bytes, b"~.\x1dd");
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
