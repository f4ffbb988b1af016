//! Timeouts for database calls: a server that accepts connections but never answers must not block
//! us for ever.

use std::io;
use std::time::Duration;

/// Timeout of one statement. Longer than the lock timeout we set in the database, so that the
/// database reports the lock itself.
const STATEMENT: Duration = Duration::from_secs(10);

/// Timeout for connecting, including the server's greeting.
const CONNECTION: Duration = Duration::from_secs(5);

/// Runs a statement with its timeout. After a timeout the connection is unusable.
pub(super) async fn bounded<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    at_most(STATEMENT, statement).await
}

/// Connects with a timeout.
pub(super) async fn connecting<T>(connection: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    at_most(CONNECTION, connection).await
}

async fn at_most<T>(limit: Duration, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", limit.as_secs());
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, why)))
    })
}
