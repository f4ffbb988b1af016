//! The table as found in the database, and the SQL statements for it.
//!
//! Guarantees: an existing table only ever gains columns and an index. The leader works without
//! columns that it may not add. Each step can be repeated.

use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::dialect::{COLUMNS, Dialect, TABLE};
use super::timeouts::bounded;

/// One of our columns, as it is in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name, in lower case.
    pub(super) name: String,
    /// Its type, as the database spells it.
    pub(super) kind: String,
    /// Most characters it takes; `None` for no limit.
    pub(super) width: Option<usize>,
    is_indexed: bool,
}

/// The table.
pub(super) struct Table {
    /// Our columns in the order of [`COLUMNS`]; `None` for a missing one.
    pub(super) columns: [Option<Column>; COLUMNS.len()],
    /// Reads all rows, every column as text.
    pub(super) select: String,
    /// Updates a row. Binds every present column except the key, then the key twice. The key is
    /// also set, since a table that ignores case has one row for both spellings.
    pub(super) update: String,
    /// Inserts a row. Binds every present column except the key, then the key.
    pub(super) insert: String,
    /// Deletes a row. Binds the key.
    pub(super) delete: String,
}

impl Table {
    /// Reads the table's columns. Creates a missing table, and adds missing columns and the index.
    pub(super) async fn bring_forward(
        dialect: &Dialect,
        connection: &mut AnyConnection,
    ) -> Result<Self, sqlx::Error> {
        let mut there = look(dialect, connection).await?;
        if there.is_empty() {
            run(connection, dialect.create).await?;
            there = look(dialect, connection).await?;
        }
        let lacking = |there: &[Column]| COLUMNS.map(|name| there.iter().all(|column| column.name != name));
        for (name, _) in COLUMNS.iter().zip(lacking(&there)).filter(|(_, is_lacking)| *is_lacking) {
            tracing::info!(column = name, "adding a column to the registry");
            let sql = format!("ALTER TABLE {TABLE} ADD COLUMN {name} {}", dialect.added);
            match run(connection, &sql).await {
                Err(error) if dialect.denies(&error) && *name != COLUMNS[0] => {
                    tracing::warn!(column = name, "going on without this column of the registry: {error}");
                }
                added => added?,
            }
        }
        let there = look(dialect, connection).await?;
        if !there.iter().any(|column| column.name == COLUMNS[0] && column.is_indexed)
            && let Err(error) = run(connection, dialect.add_index).await
        {
            if matches!(error, sqlx::Error::Io(_)) {
                return Err(error);
            }
            tracing::warn!("going on without an index of the registry: {error}");
        }
        Ok(Self::of(dialect, there))
    }

    fn of(dialect: &Dialect, there: Vec<Column>) -> Self {
        let columns = COLUMNS.map(|name| there.iter().find(|column| column.name == name).cloned());
        let select: Vec<String> = columns.iter().map(|column| dialect.reading(column.as_ref())).collect();
        let present: Vec<&Column> = columns[1..].iter().flatten().collect();
        let key = Column::key(&columns);
        let place = |(at, column): (usize, &&Column)| (dialect.place)(at + 1, column);
        let places: Vec<String> = present.iter().enumerate().map(place).collect();
        let names: Vec<&str> = present.iter().map(|column| column.name.as_str()).collect();
        let set: Vec<String> = names.iter().zip(&places).map(|(name, place)| keeping(name, place)).collect();
        let (first, second) = (present.len() + 1, present.len() + 2);
        let (key_name, first, second) =
            (COLUMNS[0], (dialect.place)(first, &key), (dialect.place)(second, &key));
        let comma = if names.is_empty() { "" } else { ", " };
        let (select, set, places, names) =
            (select.join(", "), set.join(", "), places.join(", "), names.join(", "));
        Self {
            columns,
            select: format!("SELECT {select} FROM {TABLE}"),
            update: format!(
                "UPDATE {TABLE} SET {set}{comma}{key_name} = {first} WHERE {key_name} = {second}"
            ),
            insert: format!("INSERT INTO {TABLE} ({names}{comma}{key_name}) VALUES ({places}{comma}{first})"),
            delete: format!("DELETE FROM {TABLE} WHERE {}", dialect.exact_key),
        }
    }
}

impl Column {
    /// The key column. [`Table::bring_forward`] has refused a table without one.
    fn key(columns: &[Option<Self>]) -> Self {
        columns[0].clone().unwrap_or_else(|| Self {
            name: COLUMNS[0].to_owned(),
            kind: "TEXT".to_owned(),
            width: None,
            is_indexed: false,
        })
    }
}

/// Keeps the stored `last_seen` if the new one is null. Naming the column also keeps MariaDB from
/// setting a `TIMESTAMP` to the time of the write.
fn keeping(name: &str, place: &str) -> String {
    match name {
        "last_seen" => format!("{name} = COALESCE({place}, {name})"),
        _ => format!("{name} = {place}"),
    }
}

async fn run(connection: &mut AnyConnection, sql: &str) -> Result<(), sqlx::Error> {
    bounded(sqlx::query(AssertSqlSafe(sql)).execute(connection)).await.map(drop)
}

/// The table's columns, in order; empty if there is no table.
async fn look(dialect: &Dialect, connection: &mut AnyConnection) -> Result<Vec<Column>, sqlx::Error> {
    let found = bounded(sqlx::query(dialect.columns).fetch_all(connection)).await?;
    let mut columns = Vec::with_capacity(found.len());
    for line in &found {
        let text = |at: usize| line.try_get::<String, _>(at);
        columns.push(Column {
            name: text(0)?.to_ascii_lowercase(),
            kind: text(1)?,
            width: text(2)?.parse().ok(),
            is_indexed: text(3)? == "1",
        });
    }
    Ok(columns)
}
