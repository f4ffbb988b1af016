//! Every statement of SQL, and what differs between databases.
//!
//! The statements themselves are plain: no upsert, no types beyond text and a truth value, every
//! column read as text. Another database is another variant here, a folder of migrations, and a
//! feature of the driver.

use std::fmt::Write;

/// The table.
const TABLE: &str = "peer_registry";

/// Every column, in order. The first one is the key.
pub(super) const COLUMNS: [&str; 12] = [
    "peer_id",
    "ip_address",
    "mac_address",
    "hostname",
    "last_seen",
    "is_online",
    "daemon_version",
    "instance",
    "role",
    "os",
    "arch",
    "tags",
];

/// Which database speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// SQLite 3.
    Sqlite,
}

impl Dialect {
    /// Makes the table where there is none.
    pub(super) fn create(self) -> &'static str {
        match self {
            Self::Sqlite => include_str!("migrations/sqlite/0001_peer_registry.sql"),
        }
    }

    /// Lists the columns there are, and whether each is part of the primary key.
    pub(super) fn columns(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "SELECT CAST(name AS TEXT), CAST(pk AS TEXT) FROM pragma_table_info('peer_registry')"
            }
        }
    }

    /// Adds a column: one of text that may be null.
    pub(super) fn add_column(self, column: &str) -> String {
        format!("ALTER TABLE {TABLE} ADD COLUMN {column} {}", self.text())
    }

    /// Makes finding a row fast in a table that came without a key.
    pub(super) fn add_index(self) -> &'static str {
        match self {
            Self::Sqlite => "CREATE INDEX IF NOT EXISTS peer_registry_peer_id ON peer_registry (peer_id)",
        }
    }

    /// Reads all rows, every column as text: an existing table may have declared any type.
    pub(super) fn select(self) -> String {
        let columns = COLUMNS.map(|column| format!("CAST({column} AS {})", self.text())).join(", ");
        format!("SELECT {columns} FROM {TABLE}")
    }

    /// Changes a row: binds every column but the key, then the key.
    pub(super) fn update(self) -> String {
        let (key, rest) = (COLUMNS[0], &COLUMNS[1..]);
        let mut sql = format!("UPDATE {TABLE} SET ");
        for (at, column) in rest.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(sql, "{comma}{column} = {}", self.placeholder(at + 1));
        }
        format!("{sql} WHERE {key} = {}", self.placeholder(COLUMNS.len()))
    }

    /// Adds a row: binds as [`Dialect::update`] does.
    pub(super) fn insert(self) -> String {
        let columns = COLUMNS[1..].join(", ");
        let places = (1..=COLUMNS.len()).map(|at| self.placeholder(at)).collect::<Vec<_>>().join(", ");
        format!("INSERT INTO {TABLE} ({columns}, {}) VALUES ({places})", COLUMNS[0])
    }

    /// Takes a row out: binds the key.
    pub(super) fn delete(self) -> String {
        format!("DELETE FROM {TABLE} WHERE {} = {}", COLUMNS[0], self.placeholder(1))
    }

    fn text(self) -> &'static str {
        match self {
            Self::Sqlite => "TEXT",
        }
    }

    fn placeholder(self, _at: usize) -> String {
        match self {
            Self::Sqlite => "?".to_owned(),
        }
    }
}
