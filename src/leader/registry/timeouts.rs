//! How long a database may take: a server that takes connections and says nothing must not hold
//! anything up for ever.

use std::io;
use std::time::Duration;

/// How long one statement may take. Longer than a database is told to wait for a lock, so that the
/// database says what was in the way.
const STATEMENT: Duration = Duration::from_secs(10);

/// How long it may take until a connection is there and has been greeted.
const CONNECTION: Duration = Duration::from_secs(5);

/// Waits for a statement, for as long as it may take. The connection is of no use after that.
pub(super) async fn bounded<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    at_most(STATEMENT, statement).await
}

/// Waits for a connection, for as long as it may take.
pub(super) async fn connecting<T>(connection: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    at_most(CONNECTION, connection).await
}

async fn at_most<T>(limit: Duration, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", limit.as_secs());
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, why)))
    })
}
