//! What differs between databases, as one table of facts for each; and the words they share.
//!
//! The statements themselves are plain, and made in `table`: no upsert, every column read as text.
//! Another database is another file here, a folder of migrations, and a feature of the driver.

mod mysql;
mod postgres;
mod sqlite;

use sqlx::error::{DatabaseError, ErrorKind};

use super::table::Column;

pub(super) use mysql::MYSQL;
pub(super) use postgres::POSTGRES;
pub(super) use sqlite::SQLITE;

/// The table.
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

/// How one kind of database is spoken to.
pub(super) struct Dialect {
    /// Said once on every connection: the zone is UTC, and no lock is waited for without end.
    pub(super) session: Option<&'static str>,
    /// Makes the table where there is none.
    pub(super) create: &'static str,
    /// Lists the table's columns in order, four texts each: name, type, most characters (empty:
    /// any number), and `1` where an index begins with it. None when there is no table.
    pub(super) columns: &'static str,
    /// Makes finding a row fast in a table that came without a key.
    pub(super) add_index: &'static str,
    /// The type of a column that is added; it may be null.
    pub(super) added: &'static str,
    /// The type everything is read as.
    pub(super) text: &'static str,
    /// An expression that reads a column as text.
    pub(super) read: fn(&Column) -> String,
    /// The place of the value number `at`, from one, for a column.
    pub(super) place: fn(at: usize, &Column) -> String,
    /// The condition that picks the row with a key, and no other that merely compares equal.
    pub(super) exact_key: &'static str,
    /// Whether this user may never do what was tried.
    pub(super) is_denied: fn(&dyn DatabaseError) -> bool,
    /// Whether nobody may write now.
    pub(super) is_read_only: fn(&dyn DatabaseError) -> bool,
    /// Whether what is stored is no database any more.
    pub(super) is_damage: fn(&dyn DatabaseError) -> bool,
    /// Whether the one row is to blame, beyond what the driver says of every database.
    pub(super) is_about_a_row: fn(&dyn DatabaseError) -> bool,
}

impl Dialect {
    /// Whether an error is about the one row that was written, so that others may fare better.
    pub(super) fn blames_the_row(&self, error: &sqlx::Error) -> bool {
        let sqlx::Error::Database(error) = error else { return false };
        !matches!(error.kind(), ErrorKind::Other) || (self.is_about_a_row)(error.as_ref())
    }

    /// Whether an error says that the user may not do this, and will not be allowed to soon.
    pub(super) fn forbids(&self, error: &sqlx::Error) -> bool {
        matches!(error, sqlx::Error::Database(error) if (self.is_denied)(error.as_ref()))
    }

    /// Whether an error says that the user may not do this now.
    pub(super) fn denies(&self, error: &sqlx::Error) -> bool {
        let is_read_only =
            matches!(error, sqlx::Error::Database(error) if (self.is_read_only)(error.as_ref()));
        is_read_only || self.forbids(error)
    }

    /// Whether an error says that what is stored is no database any more: no later attempt fares better.
    pub(super) fn calls_it_damaged(&self, error: &sqlx::Error) -> bool {
        matches!(error, sqlx::Error::Database(error) if (self.is_damage)(error.as_ref()))
    }

    /// Reads a column as text, or nothing where the table lacks it.
    pub(super) fn reading(&self, column: Option<&Column>) -> String {
        column.map_or_else(|| format!("CAST(NULL AS {})", self.text), |column| (self.read)(column))
    }
}

/// Whether the database's class of errors is "the data cannot be taken".
fn is_data_exception(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| code.starts_with("22"))
}
