//! Lines of a log, taken apart as whoever reads them would.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::fleet::Daemon;
use crate::harness::wait::eventually;

/// Long enough for anything that must happen, on a busy machine too.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// One line of a daemon's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) level: String,
    pub(crate) message: String,
    pub(crate) fields: BTreeMap<String, String>,
}

impl Line {
    /// Takes `TIME LEVEL message name=value name="quoted value"` apart; none for any other line.
    pub(crate) fn parse(text: &str) -> Option<Line> {
        let (time, rest) = text.split_once(' ')?;
        time.parse::<jiff::Timestamp>().ok()?;
        let (level, rest) = rest.trim_start().split_once(' ')?;
        let words = words(rest);
        let message: Vec<&str> =
            words.iter().take_while(|word| !word.contains('=')).map(String::as_str).collect();
        let fields = words.iter().skip(message.len()).map(|word| {
            let (name, value) = word.split_once('=').expect("fields come after the message");
            (name.to_owned(), value.to_owned())
        });
        Some(Line { level: level.to_owned(), message: message.join(" "), fields: fields.collect() })
    }

    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> &str {
        match self.fields.get(name) {
            Some(value) => value,
            None => panic!("no field {name}: {self:?}"),
        }
    }
}

/// Splits at blanks that are not in quotes; a quoted value keeps its escapes and loses its quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => {
                word.push(c);
                word.extend(characters.next());
            }
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    assert!(!quoted, "quotes are closed: {text}");
    words.push(word);
    words
}

/// All lines of a log that are about this job.
pub(crate) fn about(daemon: &Daemon, job: &str) -> Vec<Line> {
    let text = daemon.stderr();
    text.lines().filter(|line| line.contains(job)).filter_map(Line::parse).collect()
}

/// Waits for the line of a job that has ended or was refused.
#[track_caller]
pub(crate) fn line_of(daemon: &Daemon, job: &str) -> Line {
    eventually(SOON, "the line of a job", || about(daemon, job).into_iter().next())
}

/// Every line so far is one of the daemon's own: with its time and level, or the word that it is ready.
#[track_caller]
pub(crate) fn expect_own_lines(daemon: &Daemon) {
    for line in daemon.stderr().lines() {
        assert!(line.starts_with("ready peer=") || Line::parse(line).is_some(), "a foreign line: {line:?}");
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
    }
}
