//! The size of a terminal.

use serde::{Deserialize, Serialize};

/// How many characters a terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TtySize {
    /// In a line.
    pub cols: u16,
    /// Lines.
    pub rows: u16,
}
