//! SQLite 3: column types are only hints, and the file is either writable or not.

use super::Dialect;

pub(in crate::registry) static SQLITE: Dialect = Dialect {
    session: None,
    create: include_str!("../migrations/sqlite/0001_peer_registry.sql"),
    columns: "SELECT CAST(name AS TEXT), CAST(type AS TEXT), CAST('' AS TEXT), CAST(pk AS TEXT) \
              FROM pragma_table_info('peer_registry')",
    add_index: "CREATE INDEX IF NOT EXISTS peer_registry_peer_id ON peer_registry (peer_id)",
    added: "TEXT",
    text: "TEXT",
    read: |column| format!("CAST({} AS TEXT)", column.name),
    place: |_, _| "?".to_owned(),
    exact_key: "peer_id = ?",
    is_denied: |_| false,
    // SQLITE_READONLY and its extended codes: reading still works.
    is_read_only: |error| {
        error.code().and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| code & 0xff == 8)
    },
    is_damage: |error| {
        // SQLITE_CORRUPT and SQLITE_NOTADB.
        error
            .code()
            .and_then(|code| code.parse::<u32>().ok())
            .is_some_and(|code| matches!(code & 0xff, 11 | 26))
    },
    is_about_a_row: |_| false,
};
