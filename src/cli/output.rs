//! The only way for `d` to print its own messages, including texts from peers, operators and files,
//! to stdout and stderr.
//!
//! Guarantee: printed text cannot move the cursor, change colours, reverse the reading direction,
//! or start a new line. Control characters, bidirectional controls and other invisible characters
//! are printed as escapes. Escaped JSON keeps its meaning. So callers need not escape anything.
//! `tests/architecture.rs` ensures that no other file prints.
//!
//! Not here: the output of a command, which is passed through unchanged (`exec/writer.rs`).

mod table;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::exit::{CliError, OUTPUT_CLOSED, OUTPUT_FAILED};
use super::guide::{Headings, Topic};
use peerbus_process::Blocking;
pub(super) use table::{Cell, Table};

/// Width of text if stdout is no terminal.
const COLUMNS_OF_A_FILE: usize = 80;
/// Maximum width of text, as in the help of the verbs.
const COLUMNS_AT_MOST: usize = 100;

/// Prints one line of requested data.
pub(super) fn line(text: &str) -> Result<(), CliError> {
    put(&escaped(text))
}

/// Prints several lines.
pub(super) fn lines<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<(), CliError> {
    texts.into_iter().try_for_each(|text| line(text.as_ref()))
}

/// Prints a built-in text unchanged.
pub(super) fn own_text(text: &'static str) -> Result<(), CliError> {
    put(text)
}

/// Prints a topic of the guide.
pub(super) fn topic(topic: &Topic) -> Result<(), CliError> {
    let headings = if is_colored() { Headings::Bold } else { Headings::Plain };
    let columns = width().unwrap_or(COLUMNS_OF_A_FILE).min(COLUMNS_AT_MOST);
    bytes(topic.for_terminal(columns, headings).as_bytes())
}

/// Prints a JSON object in one line.
pub(super) fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|error| CliError::other(format!("as JSON: {error}")))?;
    json_line(&text)
}

/// Prints a JSON object over several lines.
pub(super) fn pretty_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| CliError::other(format!("as JSON: {error}")))?;
    text.lines().try_for_each(json_line)
}

/// Prints a line that should already be JSON: unchanged if it is, and escaped if not.
pub(super) fn json_line(text: &str) -> Result<(), CliError> {
    put(&harmless_json(text))
}

/// Prints rows. If there are none, prints the message `none` for a user at a terminal.
pub(super) fn list(table: &Table, none: &str) -> Result<(), CliError> {
    if table.is_empty() {
        say(none);
        return Ok(());
    }
    self::table(table)
}

/// Prints rows.
pub(super) fn table(table: &Table) -> Result<(), CliError> {
    let stdout = io::stdout();
    table.lines(width(), has_colours(&stdout)).iter().try_for_each(|line| put(line))
}

/// Prints a part of a log: lines of text, escaped.
pub(super) fn log(part: &[u8]) -> Result<(), CliError> {
    let text = String::from_utf8_lossy(part);
    let shown: String = text.split_inclusive('\n').map(log_line).collect();
    bytes(shown.as_bytes())
}

fn log_line(line: &str) -> String {
    match line.strip_suffix('\n') {
        Some(line) => escaped(line) + "\n",
        None => escaped(line),
    }
}

/// Prints completions for a shell, in escaped lines with one tab.
pub(super) fn answer(lines: &[String]) -> Result<(), CliError> {
    put(&lines.join("\n"))
}

/// Prints the parser's help to the output that the parser chose.
pub(super) fn help(help: &clap::Error) -> Result<(), CliError> {
    let text = |colours: bool| match help.render() {
        text if colours => text.ansi().to_string(),
        text => text.to_string(),
    };
    if help.use_stderr() {
        let stderr = io::stderr().lock();
        // If stderr is closed, nobody reads it.
        let _ = Blocking(&stderr).write_all(text(has_colours(&stderr)).as_bytes());
        return Ok(());
    }
    bytes(text(is_colored()).as_bytes())
}

fn put(line: &str) -> Result<(), CliError> {
    bytes(format!("{line}\n").as_bytes())
}

/// Blocks while a non-blocking output is full.
fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    // Locked, so that two threads do not mix their lines.
    let stdout = io::stdout().lock();
    Blocking(&stdout).write_all(bytes).map_err(|error| failure(&error))
}

/// A closed output is not an error message; the exit code reports it like a signal.
fn failure(error: &io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::new(OUTPUT_CLOSED, ""),
        _ => CliError::new(OUTPUT_FAILED, format!("output failed: writing standard output: {error}")),
    }
}

/// Prints one message of `d`'s own to stderr.
pub(super) fn say(text: &str) {
    complain(&format!("d: {text}"));
}

/// Prints one line to stderr. Ignores a closed stderr.
pub(super) fn complain(text: &str) {
    let stderr = io::stderr().lock();
    let _ = Blocking(&stderr).write_all(format!("{}\n", escaped(text)).as_bytes());
}

/// Whether stdout shows colours.
pub(super) fn is_colored() -> bool {
    has_colours(&io::stdout())
}

/// Whether an output is a terminal with colours, and the user has not disabled them.
pub(super) fn has_colours(output: &impl IsTerminal) -> bool {
    let is = |name: &str, wanted: &dyn Fn(&std::ffi::OsStr) -> bool| {
        std::env::var_os(name).is_some_and(|value| wanted(&value))
    };
    output.is_terminal()
        && !is("NO_COLOR", &|value| !value.is_empty())
        && !is("TERM", &|value| value == "dumb")
}

/// Columns for a table: no limit if stdout is no terminal or its width is unknown.
fn width() -> Option<usize> {
    let columns = io::stdout().is_terminal().then(peerbus_process::console_size).flatten()?.0;
    (columns > 0).then_some(usize::from(columns))
}

/// A text as one line, with escapes for invisible characters.
pub(super) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_shown_as_it_is(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_debug());
        }
    }
    shown
}

/// Whether a character is visible and does not affect its neighbours.
pub(super) fn is_shown_as_it_is(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1
}

/// JSON with such characters as JSON escapes, which keep the meaning.
fn harmless_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_shown_as_it_is(c) {
            shown.push(c);
        } else {
            let mut units = [0; 2];
            shown.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\nb\r\t\x1b[31m\u{7f}\0\u{9b}2J\u{202e}\u{2028}\u{85}\u{feff}\u{e0041}";

    #[test]
    fn what_cannot_be_seen_is_written_as_an_escape() {
        assert_eq!(escaped("it's \"grün\" \\ ok"), "it's \"grün\" \\ ok");
        assert_eq!(
            escaped(HOSTILE),
            r"a\nb\r\t\u{1b}[31m\u{7f}\0\u{9b}2J\u{202e}\u{2028}\u{85}\u{feff}\u{e0041}"
        );
    }

    #[test]
    fn json_stays_the_same_json() {
        let text = serde_json::to_string(HOSTILE).expect("JSON");
        let shown = harmless_json(&text);
        assert!(shown.chars().all(is_shown_as_it_is), "{shown:?}");
        assert_eq!(serde_json::from_str::<String>(&shown).expect("JSON"), HOSTILE);
    }

    #[test]
    fn a_log_keeps_its_lines_and_nothing_else() {
        let shown: String = "one\n\x1b[2Jtwo\nhalf".split_inclusive('\n').map(log_line).collect();
        assert_eq!(shown, "one\n\\u{1b}[2Jtwo\nhalf");
    }
}
