//! Terminals: how large they are, and what they understand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::decode::BadMessage;

/// More columns or rows than any screen has; a size beyond is a mistake, and every cell costs memory.
pub const MOST: u16 = 1_000;

/// The kind of a terminal whose owner did not say: what nearly all of them understand.
pub const USUAL_TERM: &str = "xterm-256color";

/// Longest name of a kind of terminal, or of a locale, in bytes.
const NAME_MAX: usize = 64;

/// Longest list of languages, in bytes.
const LANGUAGES_MAX: usize = 256;

/// The variables that name a locale. A terminal brings those its owner has, as ssh does with `SendEnv LANG LC_*`.
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

/// The variable that lists languages for messages. It names no locale, so it needs none on the peer.
pub const LANGUAGE: &str = "LANGUAGE";

/// How large a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtySize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// The terminal a command is to get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tty {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// What the command finds as `TERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// What the command finds as `COLORTERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colorterm: Option<String>,
    /// Its owner's locale: some of [`LOCALE_VARIABLES`]. The peer replaces locales that it does not have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub locale: BTreeMap<String, String>,
}

impl TtySize {
    /// What is assumed where nobody has a terminal.
    pub const USUAL: Self = Self { cols: 80, rows: 24 };

    /// Checks that there can be such a terminal.
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
    /// How large it is.
    #[must_use]
    pub fn size(&self) -> TtySize {
        TtySize { cols: self.cols, rows: self.rows }
    }

    /// Checks that there can be such a terminal.
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

/// Whether a word can name a kind of terminal, as in `TERM` and `COLORTERM`.
#[must_use]
pub fn is_terminal_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(word)
}

/// Whether a variable of this name and value says a locale and nothing else. No value can be a path: the C library
/// would load a locale from there.
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
