//! PostgreSQL.
//!
//! The search path finds the table by its bare name; a new table goes into the path's first schema.
//! Values are sent as text and cast to the column's type. The driver sets the session's time zone
//! to UTC.

use super::{Dialect, is_data_exception};

pub(in crate::registry) static POSTGRES: Dialect = Dialect {
    session: Some(
        "SET lock_timeout = '5s'; SET statement_timeout = '9s'; SET standard_conforming_strings = on",
    ),
    create: include_str!("../migrations/postgres/0001_peer_registry.sql"),
    columns: "SELECT CAST(a.attname AS TEXT), format_type(a.atttypid, NULL), \
              CASE WHEN a.atttypid IN (CAST('varchar' AS regtype), CAST('bpchar' AS regtype)) \
                   AND a.atttypmod > 4 THEN CAST(a.atttypmod - 4 AS TEXT) ELSE '' END, \
              CASE WHEN EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = a.attrelid \
                   AND i.indkey[0] = a.attnum) THEN '1' ELSE '0' END \
              FROM pg_attribute a WHERE a.attrelid = to_regclass('peer_registry') \
              AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    add_index: "CREATE INDEX IF NOT EXISTS peer_registry_peer_id ON peer_registry (peer_id)",
    added: "TEXT",
    text: "TEXT",
    read: |column| match column.kind.as_str() {
        // A plain cast to text would add the netmask.
        "inet" => format!("host({})", column.name),
        _ => format!("CAST({} AS TEXT)", column.name),
    },
    place: |at, column| match column.name.as_str() {
        // Casts the boolean to 1 or 0 first, since text, boolean and number columns all take those.
        "is_online" => format!("CAST(CAST(CAST(${at} AS INTEGER) AS TEXT) AS {})", column.kind),
        _ => format!("CAST(${at} AS {})", column.kind),
    },
    exact_key: "CAST(peer_id AS TEXT) = $1",
    // insufficient_privilege
    is_denied: |error| error.code().is_some_and(|code| code == "42501"),
    // read_only_sql_transaction
    is_read_only: |error| error.code().is_some_and(|code| code == "25006"),
    is_damage: |_| false,
    is_about_a_row: is_data_exception,
};
