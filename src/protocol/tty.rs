//! Terminals: their size, type and locale.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::decode::BadMessage;

/// Most columns or rows: a larger size is a mistake, and every cell costs memory.
pub const MOST: u16 = 1_000;

/// The default `TERM`, which nearly all terminals understand.
pub const USUAL_TERM: &str = "xterm-256color";

/// Longest `TERM`, `COLORTERM` or locale, in bytes.
const NAME_MAX: usize = 64;

/// Longest list of languages, in bytes.
const LANGUAGES_MAX: usize = 256;

/// The variables that name a locale. A terminal passes on its user's, as ssh does with `SendEnv LANG
/// LC_*`.
pub const LOCALE_VARIABLES: [&str; 15] = [
    "LANG",
    "LANGUAGE",
    "LC_ADDRESS",
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
];

/// The variable that lists languages for messages. It names no locale, so the peer needs none for it.
pub const LANGUAGE: &str = "LANGUAGE";

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtySize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// The terminal of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tty {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// The command's `TERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// The command's `COLORTERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colorterm: Option<String>,
    /// Its user's locale: some of [`LOCALE_VARIABLES`]. The peer replaces locales that it does not
    /// have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub locale: BTreeMap<String, String>,
}

impl TtySize {
    /// The default size, without a real terminal.
    pub const USUAL: Self = Self { cols: 80, rows: 24 };

    /// Checks that the size is possible.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn check(self) -> Result<(), BadMessage> {
        for (field, value) in [("cols", self.cols), ("rows", self.rows)] {
            if value == 0 || value > MOST {
                return Err(BadMessage(format!("field `tty.{field}`: {value} is not between 1 and {MOST}")));
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for TtySize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.cols, self.rows)
    }
}

impl Tty {
    /// Its size.
    #[must_use]
    pub fn size(&self) -> TtySize {
        TtySize { cols: self.cols, rows: self.rows }
    }

    /// Checks that the terminal is valid.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn check(&self) -> Result<(), BadMessage> {
        self.size().check()?;
        for (field, name) in [("term", &self.term), ("colorterm", &self.colorterm)] {
            if let Some(name) = name.as_ref().filter(|name| !is_terminal_name(name)) {
                return Err(BadMessage(format!(
                    "field `tty.{field}`: {name:?} is not the name of a kind of terminal"
                )));
            }
        }
        match self.locale.iter().find(|(name, value)| !is_locale(name, value)) {
            Some((name, value)) => {
                Err(BadMessage(format!("field `tty.locale`: {name:?} cannot be {value:?}")))
            }
            None => Ok(()),
        }
    }
}

/// Whether a word can be the value of `TERM` or `COLORTERM`.
#[must_use]
pub fn is_terminal_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(word)
}

/// Whether a variable only selects a locale. No value can be a path, because the C library would load a
/// locale from there.
#[must_use]
pub fn is_locale(name: &str, value: &str) -> bool {
    let (more, longest) = if name == LANGUAGE { ("-_.@:", LANGUAGES_MAX) } else { ("-_.@", NAME_MAX) };
    let word = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
    LOCALE_VARIABLES.contains(&name)
        && (1..=longest).contains(&value.len())
        && !value.starts_with('.')
        && value.chars().all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tty() -> Tty {
        Tty { cols: 80, rows: 24, term: None, colorterm: None, locale: BTreeMap::new() }
    }

    #[test]
    fn only_terminals_that_can_be_are_taken() {
        let term = |cols, rows, term: &str| Tty { cols, rows, term: Some(term.to_owned()), ..tty() }.check();
        assert!(term(80, 24, "xterm-256color").is_ok() && term(1, MOST, "vt100").is_ok());
        for (wrong, field) in [
            (term(0, 24, "vt100"), "`tty.cols`"),
            (term(80, MOST + 1, "vt100"), "`tty.rows`"),
            (term(80, 24, ""), "`tty.term`"),
            (term(80, 24, "a=b"), "`tty.term`"),
            (Tty { colorterm: Some("a b".to_owned()), ..tty() }.check(), "`tty.colorterm`"),
        ] {
            assert!(wrong.is_err_and(|bad| bad.0.contains(field)), "{field}");
        }
    }

    #[test]
    fn a_terminal_brings_a_locale_and_no_other_variable() {
        let locale = |name: &str, value: &str| {
            Tty { locale: BTreeMap::from([(name.to_owned(), value.to_owned())]), ..tty() }.check()
        };
        for (name, value) in [
            ("LANG", "de_DE.UTF-8@euro"),
            ("LC_ALL", "C"),
            ("LANGUAGE", "de_AT:de:en"),
            ("LC_CTYPE", "UTF-8"),
        ] {
            assert!(locale(name, value).is_ok(), "{name}={value}");
        }
        for (name, value) in [
            ("LD_PRELOAD", "x"),
            ("LC_EVIL", "C"),
            ("LANG", "/tmp/x"),
            ("LANG", "../x"),
            ("LANG", ""),
            ("LC_ALL", "de:en"),
            ("LC_ALL", "$(id)"),
        ] {
            assert!(locale(name, value).is_err_and(|bad| bad.0.contains("`tty.locale`")), "{name}={value}");
        }
    }
}
