//! The size of a terminal, and the kind of it.

use serde::{Deserialize, Serialize};

use super::BadMessage;

/// More columns or rows than any screen has; a size beyond is a mistake, and every cell costs memory.
pub const MOST: u16 = 1_000;

/// The kind of a terminal whose owner did not say: what nearly all of them understand.
pub const USUAL_TERM: &str = "xterm-256color";

/// How large a terminal is, in characters: from 1 to [`MOST`] in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Plain")]
pub struct TtySize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// A size as it travels, before it was looked at.
#[derive(Deserialize)]
struct Plain {
    cols: u64,
    rows: u64,
}

impl TtySize {
    /// What is assumed where nobody has a terminal.
    pub const USUAL: Self = Self { cols: 80, rows: 24 };

    /// Checks a size.
    ///
    /// # Errors
    /// Names the number that is 0 or too large.
    pub fn new(cols: u64, rows: u64) -> Result<Self, BadMessage> {
        Ok(Self { cols: checked("cols", cols)?, rows: checked("rows", rows)? })
    }
}

impl TryFrom<Plain> for TtySize {
    type Error = BadMessage;

    fn try_from(Plain { cols, rows }: Plain) -> Result<Self, BadMessage> {
        Self::new(cols, rows)
    }
}

impl std::fmt::Display for TtySize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.cols, self.rows)
    }
}

fn checked(field: &str, value: u64) -> Result<u16, BadMessage> {
    match u16::try_from(value) {
        Ok(0) => Err(BadMessage(format!("field `tty.{field}`: a terminal of 0 shows nothing"))),
        Ok(fits) if fits <= MOST => Ok(fits),
        _ => Err(BadMessage(format!("field `tty.{field}`: {value} is more than {MOST}, the most there is"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_neither_nothing_nor_endless() {
        assert_eq!(TtySize::new(80, 24), Ok(TtySize::USUAL));
        assert!(TtySize::new(1, 1000).is_ok());
        for (cols, rows, names) in
            [(0, 24, "cols"), (80, 0, "rows"), (1001, 24, "1001"), (80, 70_000, "70000")]
        {
            let error = TtySize::new(cols, rows).expect_err("refused").to_string();
            assert!(error.contains(names), "{error}");
        }
    }

    #[test]
    fn a_size_that_travels_is_looked_at() {
        let read = serde_json::from_str::<TtySize>;
        assert_eq!(read(r#"{"cols":80,"rows":24,"term":"vt100"}"#).ok(), Some(TtySize::USUAL));
        let error = read(r#"{"cols":80,"rows":10000}"#).expect_err("refused").to_string();
        assert!(error.contains("10000 is more than 1000"), "{error}");
    }
}
