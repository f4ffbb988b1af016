//! Terminals: how large they are, and what they understand.

use serde::{Deserialize, Serialize};

use super::decode::BadMessage;

/// More columns or rows than any screen has; a size beyond is a mistake, and every cell costs memory.
pub const MOST: u16 = 1_000;

/// The kind of a terminal whose owner did not say: what nearly all of them understand.
pub const USUAL_TERM: &str = "xterm-256color";

/// Longest name of a kind of terminal, in bytes.
const TERM_MAX: usize = 64;

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
        let word = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        match &self.term {
            Some(term) if term.is_empty() || term.len() > TERM_MAX || !term.chars().all(word) => {
                Err(BadMessage(format!("field `tty.term`: {term:?} is not the name of a kind of terminal")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_terminals_that_can_be_are_taken() {
        let tty = |cols, rows, term: &str| Tty { cols, rows, term: Some(term.to_owned()) }.check();
        assert!(tty(80, 24, "xterm-256color").is_ok() && tty(1, MOST, "vt100").is_ok());
        for (wrong, field) in [
            (tty(0, 24, "vt100"), "`tty.cols`"),
            (tty(80, MOST + 1, "vt100"), "`tty.rows`"),
            (tty(80, 24, ""), "`tty.term`"),
            (tty(80, 24, "a=b"), "`tty.term`"),
        ] {
            assert!(wrong.is_err_and(|bad| bad.0.contains(field)), "{field}");
        }
    }
}
