//! The differences between databases, as one table of facts for each, and the names they share.
//!
//! `table` builds the statements in plain SQL: no upsert, and every column is read as text. To
//! support another database, add a file here, a folder of migrations and a feature of the driver.

mod mysql;
mod postgres;
mod sqlite;

use sqlx::error::{DatabaseError, ErrorKind};

use super::table::Column;

pub(super) use mysql::MYSQL;
pub(super) use postgres::POSTGRES;
pub(super) use sqlite::SQLITE;

/// The name of the table.
pub(super) const TABLE: &str = "peer_registry";

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

/// The SQL dialect of one kind of database.
pub(super) struct Dialect {
    /// Runs once on every connection: sets the time zone to UTC and a lock timeout.
    pub(super) session: Option<&'static str>,
    /// Creates the table if it is missing.
    pub(super) create: &'static str,
    /// Lists the table's columns in order, as four texts each: name, type, maximum length (empty
    /// for no limit), and `1` if an index begins with it. Returns no rows if there is no table.
    pub(super) columns: &'static str,
    /// Adds an index to a table that has no key.
    pub(super) add_index: &'static str,
    /// The type of an added column, which is nullable.
    pub(super) added: &'static str,
    /// The type that every column is read as.
    pub(super) text: &'static str,
    /// An expression that reads a column as text.
    pub(super) read: fn(&Column) -> String,
    /// The placeholder of value number `at`, counted from one, for a column.
    pub(super) place: fn(at: usize, &Column) -> String,
    /// The condition that selects the row with exactly this key, and no row whose key only compares
    /// equal.
    pub(super) exact_key: &'static str,
    /// Whether the user lacks the privilege.
    pub(super) is_denied: fn(&dyn DatabaseError) -> bool,
    /// Whether the database is read-only now.
    pub(super) is_read_only: fn(&dyn DatabaseError) -> bool,
    /// Whether the stored data is no longer a valid database.
    pub(super) is_damage: fn(&dyn DatabaseError) -> bool,
    /// Whether the row itself causes the error, beyond the driver's general error kinds.
    pub(super) is_about_a_row: fn(&dyn DatabaseError) -> bool,
}

impl Dialect {
    /// Whether the row itself causes the error, so that other rows may succeed.
    pub(super) fn blames_the_row(&self, error: &sqlx::Error) -> bool {
        let sqlx::Error::Database(error) = error else { return false };
        !matches!(error.kind(), ErrorKind::Other) || (self.is_about_a_row)(error.as_ref())
    }

    /// Whether the user lacks the privilege for good.
    pub(super) fn forbids(&self, error: &sqlx::Error) -> bool {
        matches!(error, sqlx::Error::Database(error) if (self.is_denied)(error.as_ref()))
    }

    /// Whether the user may not do this now.
    pub(super) fn denies(&self, error: &sqlx::Error) -> bool {
        let is_read_only =
            matches!(error, sqlx::Error::Database(error) if (self.is_read_only)(error.as_ref()));
        is_read_only || self.forbids(error)
    }

    /// Whether the stored data is no longer a valid database. Retrying does not help then.
    pub(super) fn calls_it_damaged(&self, error: &sqlx::Error) -> bool {
        matches!(error, sqlx::Error::Database(error) if (self.is_damage)(error.as_ref()))
    }

    /// The expression that reads a column as text, or null if the table lacks it.
    pub(super) fn reading(&self, column: Option<&Column>) -> String {
        column.map_or_else(|| format!("CAST(NULL AS {})", self.text), |column| (self.read)(column))
    }
}

/// Whether the SQLSTATE class is 22, "data exception".
fn is_data_exception(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| code.starts_with("22"))
}
