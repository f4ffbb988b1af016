//! Better error messages for common mistakes in a command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::output::escaped;
use peerbus_protocol::exec::quoted;

/// The message to print instead of clap's.
pub(super) fn explained(mistake: &clap::Error, words: &[OsString]) -> Option<String> {
    match mistake.kind() {
        ErrorKind::UnknownArgument => {
            let Some(ContextValue::String(stray)) = mistake.get(ContextKind::InvalidArg) else { return None };
            without_dashes(stray, words)
        }
        ErrorKind::InvalidUtf8 => not_utf8(words),
        _ => None,
    }
}

/// `d exec w1 hostname -f`: the `--` before the command is missing.
fn without_dashes(stray: &str, words: &[OsString]) -> Option<String> {
    let at = words.iter().position(|word| word == stray)?;
    let (before, command) = words.split_at(at);
    if stray.starts_with('-') || !before.iter().any(|word| word == "exec") {
        return None;
    }
    let command: Vec<&OsString> = command.iter().filter(|word| *word != "--").collect();
    let line = match command.as_slice() {
        [line] if stray.contains(char::is_whitespace) => format!("--sh {}", shown(line)),
        _ => format!("-- {}", shown_all(command)),
    };
    Some(format!(
        "unexpected argument {}: a command comes after `--`, and a line for the peer's shell after --sh, as in\n  d {} {line}",
        quoted(&escaped(stray)),
        shown_all(before)
    ))
}

/// Requests are JSON text. A shell on the peer can make any bytes from text.
fn not_utf8(words: &[OsString]) -> Option<String> {
    let bad = words.iter().find(|word| word.to_str().is_none())?;
    let what = format!("{} is not UTF-8, which all that is sent has to be", escaped(&bad.to_string_lossy()));
    let dashes = words.iter().position(|word| word == "--");
    let command = dashes.and_then(|at| words.get(at + 1..)).filter(|command| command.contains(bad));
    let Some(command) = command else { return Some(what) };
    let line: Vec<String> = command.iter().map(|word| for_shell(word)).collect();
    Some(format!(
        "{what}; a shell on the peer makes it of escapes, with this in place of `--` and what follows:\n  --sh {}",
        quoted(&line.join(" "))
    ))
}

/// A word for a shell line, with invalid UTF-8 escaped in ASCII.
fn for_shell(word: &OsStr) -> String {
    if let Some(text) = word.to_str() {
        return quoted(text);
    }
    let bytes = word.as_bytes().iter().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' | b'=' | b' ' => {
            char::from(*byte).to_string()
        }
        byte => format!("\\{byte:03o}"),
    });
    format!("\"$(printf -- \"{}\")\"", bytes.collect::<String>())
}

fn shown(word: &OsStr) -> String {
    quoted(&escaped(&word.to_string_lossy()))
}

fn shown_all<'a>(words: impl IntoIterator<Item = &'a OsString>) -> String {
    words.into_iter().map(|word| shown(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use clap::Parser;

    use super::*;
    use crate::args::Args;

    fn explain(words: &[&[u8]]) -> Option<String> {
        let words: Vec<OsString> = words.iter().map(|word| OsString::from_vec(word.to_vec())).collect();
        let command_line = std::iter::once(OsString::from("d")).chain(words.iter().cloned());
        explained(&Args::try_parse_from(command_line).expect_err("misused"), &words)
    }

    #[test]
    fn a_command_without_dashes_is_shown_with_them() {
        let said = explain(&[b"exec", b"w1", b"-C", b"/tmp", b"hostname", b"-f"]).expect("explained");
        assert!(said.ends_with("\n  d exec w1 -C /tmp -- hostname -f"), "{said}");
        let said = explain(&[b"exec", b"w1", b"echo hi"]).expect("explained");
        assert!(said.ends_with("\n  d exec w1 --sh 'echo hi'"), "{said}");
        assert_eq!(explain(&[b"exec", b"w1", b"--nosuch", b"--", b"true"]), None);
        assert_eq!(explain(&[b"peers", b"w1"]), None);
    }

    #[test]
    fn bytes_that_are_no_text_have_another_way() {
        let said = explain(&[b"exec", b"w1", b"-C", b"/", b"--", b"cat", b"caf\xe9 1%"]).expect("explained");
        assert!(said.ends_with("\n  --sh 'cat \"$(printf -- \"caf\\351 1\\045\")\"'"), "{said}");
        let said = explain(&[b"exec", b"w1", b"-C", b"/\xff", b"--", b"true"]).expect("explained");
        assert!(said.contains("is not UTF-8") && !said.contains("--sh"), "{said}");
    }
}
