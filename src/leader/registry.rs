//! The registry: every peer the leader has ever heard, in a database.
//!
//! The idea: the roster in memory is the truth while the leader runs, and the registry is what it
//! begins with after a restart, and what scripts read. So rows are written whole, the newest one
//! wins, and writing one twice is harmless.
//!
//! Guarantees: the table `peer_registry` keeps the seven columns scripts know, first and in their
//! order; a table that is already there is kept with its rows, and its missing columns are added;
//! a batch is written whole or not at all; a new file is readable by its owner alone; errors name
//! the file. Limits: presence beyond `is_online`, load, jobs and uptime are not stored; a row whose
//! id is no peer id is left alone and not shown.

mod dialect;
mod place;
mod row;

#[cfg(test)]
mod tests;

use std::str::FromStr;
use std::sync::Once;

use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, AssertSqlSafe, ConnectOptions, Connection, Row};
use thiserror::Error;

use crate::protocol::PeerId;
use crate::protocol::peers::PeerRow;

use dialect::{COLUMNS, Dialect};
pub use place::{BadPlace, Place};

/// Why the registry cannot be used now. Says what was being done, where, and what came back.
#[derive(Debug, Error)]
#[error("{doing} the registry {place}: {why}")]
pub struct RegistryError {
    doing: &'static str,
    place: Place,
    why: String,
}

/// An open registry.
pub struct Registry {
    place: Place,
    dialect: Dialect,
    connection: AnyConnection,
}

impl Registry {
    /// Opens the registry; makes it where there is none, and brings an older one forward.
    ///
    /// # Errors
    /// When it cannot be opened or is no database; names the file and the reason.
    pub async fn open(place: &Place) -> Result<Self, RegistryError> {
        let failed = |why: String| RegistryError { doing: "opening", place: place.clone(), why };
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let wanted = place.clone();
        let url = tokio::task::spawn_blocking(move || wanted.prepare())
            .await
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        let connection =
            async { AnyConnectOptions::from_str(&url)?.disable_statement_logging().connect().await };
        let connection = connection.await.map_err(|error| failed(sentence(&error)))?;
        let mut registry = Self { place: place.clone(), dialect: place.dialect(), connection };
        registry.bring_forward().await.map_err(|error| failed(sentence(&error)))?;
        Ok(registry)
    }

    /// Reads every row.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn load(&mut self) -> Result<Vec<PeerRow>, RegistryError> {
        let sql = AssertSqlSafe(self.dialect.select());
        let found = sqlx::query(sql).fetch_all(&mut self.connection).await;
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

    /// Writes rows, new ones and known ones, in one transaction.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn save(&mut self, rows: &[PeerRow]) -> Result<(), RegistryError> {
        let saved = save(&mut self.connection, self.dialect, rows).await;
        saved.map_err(|error| self.failed("writing to", &error))
    }

    /// Takes a row out; one that is not there is no mistake.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove(&mut self, peer: &PeerId) -> Result<(), RegistryError> {
        let sql = AssertSqlSafe(self.dialect.delete());
        let removed = sqlx::query(sql).bind(peer.as_str()).execute(&mut self.connection).await;
        removed.map(drop).map_err(|error| self.failed("writing to", &error))
    }

    /// Takes every row out; returns how many there were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn clear(&mut self) -> Result<u64, RegistryError> {
        let cleared = sqlx::query("DELETE FROM peer_registry").execute(&mut self.connection).await;
        cleared.map(|done| done.rows_affected()).map_err(|error| self.failed("writing to", &error))
    }

    /// Makes the table, or adds what an older one lacks. Each step can be taken again.
    async fn bring_forward(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query(self.dialect.create()).execute(&mut self.connection).await?;
        let there = sqlx::query(self.dialect.columns()).fetch_all(&mut self.connection).await?;
        let mut is_keyed = false;
        let mut names: Vec<String> = Vec::new();
        for column in &there {
            let (name, key): (String, String) = (column.try_get(0)?, column.try_get(1)?);
            is_keyed |= name.eq_ignore_ascii_case(COLUMNS[0]) && key == "1";
            names.push(name.to_ascii_lowercase());
        }
        for column in COLUMNS.into_iter().filter(|column| !names.iter().any(|name| name == column)) {
            tracing::info!(registry = %self.place, column, "adding a column to the registry");
            let sql = AssertSqlSafe(self.dialect.add_column(column));
            sqlx::query(sql).execute(&mut self.connection).await?;
        }
        if !is_keyed {
            sqlx::query(self.dialect.add_index()).execute(&mut self.connection).await?;
        }
        Ok(())
    }

    fn failed(&self, doing: &'static str, error: &sqlx::Error) -> RegistryError {
        RegistryError { doing, place: self.place.clone(), why: sentence(error) }
    }
}

async fn save(connection: &mut AnyConnection, dialect: Dialect, rows: &[PeerRow]) -> Result<(), sqlx::Error> {
    let (update, insert) = (dialect.update(), dialect.insert());
    let mut transaction = connection.begin().await?;
    for row in rows {
        let written = row::bind(sqlx::query(AssertSqlSafe(update.as_str())), row);
        if written.execute(&mut *transaction).await?.rows_affected() == 0 {
            let added = row::bind(sqlx::query(AssertSqlSafe(insert.as_str())), row);
            added.execute(&mut *transaction).await?;
        }
    }
    transaction.commit().await
}

/// The database's own sentence where there is one.
fn sentence(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        other => other.to_string(),
    }
}
