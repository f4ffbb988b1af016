//! The registry: a database with every peer the leader has ever heard.
//!
//! The idea: while the leader runs, the roster in memory is authoritative. The registry restores it
//! after a restart, and scripts read it. So rows are written whole, the newest row wins, and a
//! repeated write is harmless.
//!
//! Guarantees: the table `peer_registry` starts with the seven columns scripts know, in their
//! order. An existing table keeps its rows; missing columns are added where the database allows it.
//! A batch is atomic, except that rows the table itself refuses may be left out. Times are UTC. A
//! new file is readable by its owner alone. Errors name the registry's location and never a
//! password. Limits: the registry does not store load, jobs, uptime, or presence beyond
//! `is_online`. A row with an invalid peer id is kept but not shown.

mod database_url;
mod dialect;
mod row;
mod table;
mod timeouts;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Once;

use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, AssertSqlSafe, ConnectOptions, Connection, Row};
use thiserror::Error;

use peerbus_protocol::PeerId;
use peerbus_protocol::peers::PeerRow;

pub use database_url::{BadDatabaseUrl, DatabaseUrl, moved_aside};
use dialect::{COLUMNS, Dialect};
use row::Cells;
use table::Table;
use timeouts::bounded;

/// Why the registry cannot be used now: the operation, the location and the database's error.
#[derive(Debug, Error)]
#[error("{doing} the registry {place}: {why}")]
pub struct RegistryError {
    doing: &'static str,
    place: DatabaseUrl,
    why: String,
    /// Whether the stored data is no longer a valid database.
    is_damage: bool,
}

impl RegistryError {
    /// Whether the stored data is no longer a valid database. Retrying does not help then.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        self.is_damage
    }
}

/// The result of deleting a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// The row does not exist any more.
    Gone,
    /// The database refuses to delete the row, and why: the user lacks the privilege, or another
    /// table refers to the row. Retrying does not help.
    Kept(String),
}

/// An open registry.
pub struct Registry {
    place: DatabaseUrl,
    dialect: &'static Dialect,
    table: Table,
    connection: AnyConnection,
    /// Peers whose rows the table does not take as they are. Each is logged once.
    misfits: BTreeSet<PeerId>,
}

impl Registry {
    /// Opens the registry. Creates a missing table and upgrades an older one.
    ///
    /// # Errors
    /// If it cannot be opened or is not a database. The error names the location and the reason.
    pub async fn open(place: &DatabaseUrl) -> Result<Self, RegistryError> {
        let failed =
            |why: String| RegistryError { doing: "opening", place: place.clone(), why, is_damage: false };
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let wanted = place.clone();
        let url = tokio::task::spawn_blocking(move || wanted.prepare())
            .await
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        let dialect = place.dialect();
        let refused = |error: sqlx::Error| RegistryError {
            is_damage: dialect.calls_it_damaged(&error),
            ..failed(sentence(&error))
        };
        let mut connection = connect(&url, dialect).await.map_err(refused)?;
        let table = Table::bring_forward(dialect, &mut connection).await.map_err(refused)?;
        Ok(Self { place: place.clone(), dialect, table, connection, misfits: BTreeSet::new() })
    }

    /// Reads every row. Skips and logs rows without a valid peer id.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn load(&mut self) -> Result<Vec<PeerRow>, RegistryError> {
        let sql = AssertSqlSafe(self.table.select.as_str());
        let found = bounded(sqlx::query(sql).fetch_all(&mut self.connection)).await;
        let found = found.map_err(|error| self.failed("reading", &error))?;
        let mut rows = Vec::with_capacity(found.len());
        for line in &found {
            let cells: Vec<Option<String>> =
                (0..COLUMNS.len()).map(|at| line.try_get(at).ok().flatten()).collect();
            match row::read(cells) {
                Ok(row) => rows.push(row),
                Err(bad) => {
                    tracing::warn!(registry = %self.place, "leaving a row of the registry alone: {bad}")
                }
            }
        }
        Ok(rows)
    }

    /// Inserts or updates rows in one transaction. A row that the table itself refuses does not
    /// block the others: it is simplified, or else left out, and logged.
    ///
    /// # Errors
    /// If the database fails; then no row was written.
    pub async fn save(&mut self, rows: &[PeerRow]) -> Result<(), RegistryError> {
        let all: Vec<Cells> = rows.iter().map(|row| row::cells(row, &self.table)).collect();
        let saved = match save(&mut self.connection, &self.table, &all).await {
            Err(error) if self.dialect.blames_the_row(&error) => self.save_each(rows, all).await,
            saved => saved,
        };
        saved.map_err(|error| self.failed("writing to", &error))
    }

    /// Deletes a row. A missing row is not an error.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn remove(&mut self, peer: &PeerId) -> Result<Removal, RegistryError> {
        let sql = AssertSqlSafe(self.table.delete.as_str());
        let removed = sqlx::query(sql).bind(peer.as_str()).execute(&mut self.connection);
        match bounded(removed).await {
            Ok(_) => Ok(Removal::Gone),
            Err(error) if self.dialect.blames_the_row(&error) || self.dialect.forbids(&error) => {
                Ok(Removal::Kept(sentence(&error)))
            }
            Err(error) => Err(self.failed("writing to", &error)),
        }
    }

    /// Deletes every row; returns how many there were.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn clear(&mut self) -> Result<u64, RegistryError> {
        let cleared = bounded(sqlx::query("DELETE FROM peer_registry").execute(&mut self.connection)).await;
        cleared.map(|done| done.rows_affected()).map_err(|error| self.failed("writing to", &error))
    }

    /// Closes the connection. Gives up after a timeout.
    pub async fn close(self) {
        let _ = bounded(self.connection.close()).await;
    }

    async fn save_each(&mut self, rows: &[PeerRow], all: Vec<Cells>) -> Result<(), sqlx::Error> {
        for (row, cells) in rows.iter().zip(all) {
            let written = save(&mut self.connection, &self.table, std::slice::from_ref(&cells)).await;
            let Err(error) = written else { continue };
            if !self.dialect.blames_the_row(&error) {
                return Err(error);
            }
            let plain = save(&mut self.connection, &self.table, &[row::plain(cells)]).await;
            match plain {
                Ok(()) => self.complain(row, "storing a peer in plain characters only", &error),
                Err(worse) if self.dialect.blames_the_row(&worse) => {
                    self.complain(row, "the registry does not take a peer's row", &error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn complain(&mut self, row: &PeerRow, what: &str, error: &sqlx::Error) {
        if self.misfits.insert(row.peer_id.clone()) {
            let why = sentence(error);
            tracing::warn!(registry = %self.place, peer = %row.peer_id, "{what}: {why}");
        }
    }

    fn failed(&self, doing: &'static str, error: &sqlx::Error) -> RegistryError {
        let is_damage = self.dialect.calls_it_damaged(error);
        RegistryError { doing, place: self.place.clone(), why: sentence(error), is_damage }
    }
}

async fn connect(url: &str, dialect: &Dialect) -> Result<AnyConnection, sqlx::Error> {
    let connection = async { AnyConnectOptions::from_str(url)?.disable_statement_logging().connect().await };
    let mut connection = timeouts::connecting(connection).await?;
    if let Some(session) = dialect.session {
        bounded(sqlx::raw_sql(session).execute(&mut connection)).await?;
    }
    Ok(connection)
}

async fn save(connection: &mut AnyConnection, table: &Table, rows: &[Cells]) -> Result<(), sqlx::Error> {
    let mut transaction = bounded(connection.begin()).await?;
    for cells in rows {
        let update = row::bind(sqlx::query(AssertSqlSafe(table.update.as_str())), cells, table, 2);
        if bounded(update.execute(&mut *transaction)).await?.rows_affected() == 0 {
            let insert = row::bind(sqlx::query(AssertSqlSafe(table.insert.as_str())), cells, table, 1);
            bounded(insert.execute(&mut *transaction)).await?;
        }
    }
    bounded(transaction.commit()).await
}

/// The database's own message, if it sent one.
fn sentence(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        other => other.to_string(),
    }
}
