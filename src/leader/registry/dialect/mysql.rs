//! MariaDB and MySQL.
//!
//! The session's time zone is set to UTC, whatever the server's is. Strict mode turns a value that
//! does not fit into an error instead of changing it. Texts that differ in case or accents may
//! compare equal, so a delete compares bytes. An update changes the row whose key the table
//! considers equal.

use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;

use super::{Dialect, is_data_exception};

pub(in crate::registry) static MYSQL: Dialect = Dialect {
    session: Some(
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', \
         autocommit = 1, lock_wait_timeout = 5, innodb_lock_wait_timeout = 5",
    ),
    create: include_str!("../migrations/mysql/0001_peer_registry.sql"),
    columns: "SELECT CAST(column_name AS CHAR), CAST(data_type AS CHAR), \
              CAST(COALESCE(character_maximum_length, '') AS CHAR), \
              CASE WHEN column_key = '' THEN '0' ELSE '1' END \
              FROM information_schema.columns \
              WHERE table_schema = DATABASE() AND table_name = 'peer_registry' ORDER BY ordinal_position",
    add_index: "CREATE INDEX peer_registry_peer_id ON peer_registry (peer_id)",
    added: "TEXT CHARACTER SET utf8mb4",
    text: "CHAR",
    read: |column| format!("CAST({} AS CHAR)", column.name),
    place: |_, _| "?".to_owned(),
    exact_key: "BINARY CONVERT(peer_id USING utf8mb4) = ?",
    // ER_DBACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR, ER_COLUMNACCESS_DENIED_ERROR,
    // ER_SPECIFIC_ACCESS_DENIED_ERROR.
    is_denied: |error| is_one_of(error, &[1044, 1142, 1143, 1227]),
    // ER_OPTION_PREVENTS_STATEMENT
    is_read_only: |error| is_one_of(error, &[1290]),
    // ER_NO_DEFAULT_FOR_FIELD, WARN_DATA_TRUNCATED, ER_TRUNCATED_WRONG_VALUE_FOR_FIELD: each may
    // come with an unspecific SQLSTATE.
    is_damage: |_| false,
    is_about_a_row: |error| is_data_exception(error) || is_one_of(error, &[1265, 1364, 1366]),
};

fn is_one_of(error: &dyn DatabaseError, numbers: &[u16]) -> bool {
    error.try_downcast_ref::<MySqlDatabaseError>().is_some_and(|error| numbers.contains(&error.number()))
}
